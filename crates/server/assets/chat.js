/**
 * @file The chat page: rooms, their timelines, and one connection.
 *
 * Invariants:
 *
 * - What comes from the network is text. It reaches the page through `textContent` alone.
 * - A message of one's own stands in the timeline twice in its life, never at once: at the end while
 *   it is on its way, and then where the server put it, which is where everybody else sees it.
 * - Nothing grows without a bound: a timeline keeps {@link MESSAGES_MAX} messages, and so does what
 *   waits for the next frame to be drawn.
 *
 * golem's wire delivers a `msg` without the room it was published to. This page therefore puts the
 * room into what it sends. What other programs send may lack it; see {@link placesOf}.
 */

import {
  NAME_MAX,
  drawMessage,
  element,
  hueOf,
  initialsOf,
  readMessage,
  shorten,
} from "./chat-message.js";
import { Connection } from "./throng.js";

/** Messages that one room's timeline keeps. Older ones leave the page. */
const MESSAGES_MAX = 500;
/** Characters of a room's name inside a sentence. */
const ROOM_MAX = 64;
/** Messages of one person this close together stand under one name. */
const FOLLOW_MS = 3 * 60_000;
/** This close to the end of a timeline (in pixels), it follows new messages. */
const END_PX = 48;
/** Error messages on the screen at once; the oldest goes. */
const ALERTS_MAX = 3;
const OFFERED_ROOM = "lobby";
const OFFLINE = "You are offline. Your message stays here until you are back.";

const at = (id) => document.getElementById(id);

/** @type {Map<string, Room>} In the order they were joined. */
const rooms = new Map();
/** @type {Room | null} The room on the screen. */
let active = null;
/** @type {Set<string>} Rooms left since: what was under way when we left is not shown. */
const left = new Set();
/** @type {Map<string, Outgoing>} Messages of our own whose delivery we have not seen, by id. */
const outgoing = new Map();
/** @type {Set<Room>} Rooms with something to draw in the next frame. */
const undrawn = new Set();
let person = "";
let wasOpen = false;
/** Whether the timeline stays at its end when it grows or the window shrinks. */
let following = true;

/** Where the WebSocket is, as the server says in the page. */
const address = document.querySelector('meta[name="throng-websocket"]')?.content;
const connection = new Connection(address);

// ---- Messages ------------------------------------------------------------------------------------

/**
 * The rooms whose timelines show a message.
 *
 * A message that names no room, or one that we are not in, was published to one of ours: nothing
 * else is delivered to us. If there is only one, that is the one. If there are several, every one
 * shows it, marked: whichever the person looks at, nothing is missed.
 *
 * @param {Message} message
 * @returns {Room[]}
 */
function placesOf(message) {
  const named = message.room === null ? undefined : rooms.get(message.room);
  if (named) return [named];
  if (left.has(message.room)) return [];
  if (message.room !== null) message.origin = `says room “${shorten(message.room, ROOM_MAX)}”`;
  else if (rooms.size > 1) message.origin = "room not stated";
  return [...rooms.values()];
}

connection.on("msg", (value) => {
  const message = readMessage(value);
  const mine = outgoing.get(message.id);
  if (mine) {
    // Only once: a copy of our message that somebody else sends is not ours.
    mine.settle();
    message.own = true;
  }
  const places = placesOf(message);
  for (const room of places) room.add(message);
  if (places.length === 1) countUnread(places[0], message);
  else if (places.length > 1) countUnread(active, message);
});

function countUnread(room, message) {
  if (message.own || (room === active && !document.hidden)) return;
  room.unread += 1;
  room.drawEntry();
  drawUnread();
}

/** A message of our own, from the moment it is sent until the server delivers it to us. */
class Outgoing {
  constructor(room, message) {
    this.room = room;
    this.message = message;
    this.node = drawMessage(message, false);
    this.node.classList.add("pending");
    this.note = element("p", "note", "Sending");
    this.node.querySelector(".stack").append(this.note);
    outgoing.set(message.id, this);
    room.sending.append(this.node);
  }

  /** Says that it may be lost, and offers to send it again. */
  doubt() {
    if (this.node.classList.contains("doubtful")) return;
    this.node.classList.add("doubtful");
    const again = element("button", "", "Send again");
    again.type = "button";
    again.addEventListener("click", () => {
      if (!say(this.room, this.message.text)) return;
      this.settle();
      at("text").focus();
    });
    const drop = element("button", "", "Remove");
    drop.type = "button";
    drop.addEventListener("click", () => {
      this.settle();
      at("text").focus();
    });
    this.note.replaceChildren("Not confirmed.", again, drop);
    keepEnd();
  }

  settle() {
    outgoing.delete(this.message.id);
    this.node.remove();
  }
}

/**
 * Publishes `text` to a room.
 *
 * @returns {boolean} False if there is no connection to send it on; then nothing has changed.
 */
function say(room, text) {
  const id = [...crypto.getRandomValues(new Uint32Array(3))].map((n) => n.toString(36)).join("");
  const msg = { room: room.name, name: person, text, time: new Date().toISOString(), id };
  if (!connection.emit("msg", { to: room.name, msg })) return false;
  new Outgoing(room, { ...readMessage(msg), own: true });
  scrollToEnd();
  return true;
}

// ---- Rooms ---------------------------------------------------------------------------------------

/** One joined room: its timeline, its entry in the list of rooms, and what is unread. */
class Room {
  constructor(name) {
    this.name = name;
    this.unread = 0;
    this.draft = "";
    /** Where the person was reading; null at the end. */
    this.scrollTop = null;
    /** @type {Message[]} Arrived, not drawn yet. */
    this.incoming = [];
    /** @type {Message | null} The last one drawn; null if a line of ours stands between. */
    this.last = null;
    this.messages = element("ol", "messages");
    this.sending = element("ol", "messages");
    this.timeline = element("div", "thread");
    this.timeline.append(this.messages, this.sending);
    this.drawFirst();

    this.entry = element("li");
    this.button = element("button", "room");
    this.button.type = "button";
    this.button.addEventListener("click", () => {
      show(this);
      closeDrawer();
      focusText();
    });
    this.badge = element("span", "badge");
    const label = element("bdi", "room-name", name);
    const hash = element("span", "hash", "#");
    hash.ariaHidden = "true";
    this.button.append(hash, label, this.badge);
    this.entry.append(this.button);
    this.drawEntry();
  }

  drawFirst() {
    const first = element("li", "first");
    const name = element("bdi", "", this.name);
    const title = element("h2");
    title.append("This is ", name);
    first.append(title, element("p", "", "You see what is said from now on."));
    this.messages.append(first);
  }

  drawEntry() {
    const { unread } = this;
    this.badge.hidden = unread === 0;
    this.badge.textContent = unread > 99 ? "99+" : String(unread);
    this.badge.ariaLabel = `${unread} unread`;
    this.entry.classList.toggle("unread", unread > 0);
    if (this === active) this.button.setAttribute("aria-current", "true");
    else this.button.removeAttribute("aria-current");
  }

  /** @param {Message} message */
  add(message) {
    this.incoming.push(message);
    // A hidden page is not drawn, and a fast room does not wait for it.
    if (this.incoming.length > MESSAGES_MAX) this.incoming.shift();
    draw(this);
  }

  /** A line of ours between the messages. */
  addLine(text) {
    this.drawIncoming();
    this.last = null;
    this.messages.append(element("li", "line", text));
    this.trim();
  }

  drawIncoming() {
    for (const message of this.incoming) {
      const follows =
        this.last?.own === message.own &&
        this.last.name === message.name &&
        this.last.origin === message.origin &&
        message.arrivedAt - this.last.arrivedAt < FOLLOW_MS;
      this.messages.append(drawMessage(message, follows));
      this.last = message;
    }
    this.incoming = [];
    this.trim();
  }

  trim() {
    while (this.messages.childElementCount > MESSAGES_MAX) this.messages.firstElementChild.remove();
    // Who said it went with what was taken away.
    this.messages.firstElementChild?.classList.remove("follows");
  }
}

function join(name) {
  let room = rooms.get(name);
  if (!room) {
    room = new Room(name);
    rooms.set(name, room);
    left.delete(name);
    at("rooms").append(room.entry);
    connection.join(name);
  }
  show(room);
  return room;
}

function leave(room) {
  left.add(room.name);
  connection.leave(room.name);
  remove(room);
}

function remove(room) {
  for (const mine of [...outgoing.values()]) if (mine.room === room) mine.settle();
  const names = [...rooms.keys()];
  const index = names.indexOf(room.name);
  rooms.delete(room.name);
  undrawn.delete(room);
  room.entry.remove();
  if (room === active) show(rooms.get(names[index + 1] ?? names[index - 1]) ?? null);
  else drawUnread();
}

/** Puts a room on the screen, or the welcome if there is none. */
function show(room) {
  const before = active;
  if (before && before !== room) {
    before.scrollTop = following ? null : at("timeline").scrollTop;
    before.draft = at("text").value;
  }
  active = room;
  if (before !== room) before?.drawEntry();
  for (const id of ["timeline", "footer", "leave"]) at(id).hidden = room === null;
  at("welcome").hidden = room !== null;
  at("app").classList.toggle("welcoming", room === null);
  at("rooms-empty").hidden = rooms.size > 0;
  at("title").classList.toggle("in-room", room !== null);
  at("title-room").textContent = room?.name ?? "Welcome";
  if (room === null) {
    at("timeline").replaceChildren();
  } else if (before !== room) {
    showTimeline(room);
  }
  drawUnread();
  drawAddress();
}

function showTimeline(room) {
  room.drawIncoming();
  room.unread = 0;
  room.drawEntry();
  // Announcing a whole timeline as news would help nobody.
  const timeline = at("timeline");
  timeline.ariaLive = "off";
  timeline.replaceChildren(room.timeline);
  requestAnimationFrame(() => (timeline.ariaLive = "polite"));
  scrollToEnd();
  if (room.scrollTop !== null) {
    timeline.scrollTop = room.scrollTop;
    following = false;
  }
  at("text").value = room.draft;
  at("text").placeholder = `Message ${room.name}`;
  fitText();
}

// ---- Drawing -------------------------------------------------------------------------------------

/** Draws a room in the next frame: many messages at once, however fast they come. */
function draw(room) {
  if (undrawn.size === 0) requestAnimationFrame(drawAll);
  undrawn.add(room);
}

function drawAll() {
  const news = active !== null && undrawn.has(active);
  for (const room of undrawn) room.drawIncoming();
  undrawn.clear();
  if (!news) return;
  keepEnd();
  at("newest").hidden = following;
}

function scrollToEnd() {
  const timeline = at("timeline");
  timeline.scrollTop = timeline.scrollHeight;
  following = true;
  at("newest").hidden = true;
}

/** For when the timeline has become longer or its window smaller. */
function keepEnd() {
  if (following) scrollToEnd();
}

function drawUnread() {
  let total = 0;
  let elsewhere = 0;
  for (const room of rooms.values()) {
    total += room.unread;
    if (room !== active) elsewhere += room.unread;
  }
  at("drawer-unread").hidden = elsewhere === 0;
  at("drawer-unread").textContent = elsewhere > 99 ? "99+" : String(elsewhere);
  at("drawer-open").ariaLabel = elsewhere === 0 ? "Rooms" : `Rooms, ${elsewhere} unread`;
  document.title = `${total > 0 ? `(${total}) ` : ""}${active ? `${active.name} – ` : ""}Throng`;
}

/** Keeps the rooms in the page's address: loading it again joins them again, and so does a link. */
function drawAddress() {
  const names = [...rooms.keys()].map((name) => `room=${encodeURIComponent(name)}`);
  history.replaceState(null, "", names.length > 0 ? `?${names.join("&")}` : location.pathname);
}

/** Tells the person that something went wrong, until they put it away. */
function alertPerson(text) {
  const alerts = at("alerts");
  const same = findAlert(text);
  const count = Number(same?.dataset.count ?? 0) + 1;
  same?.remove();
  const alert = element("div", "alert");
  alert.dataset.text = text;
  alert.dataset.count = String(count);
  const close = element("button", "", "Dismiss");
  close.type = "button";
  close.addEventListener("click", () => alert.remove());
  alert.append(element("p", "", count > 1 ? `${text} (${count} times)` : text), close);
  alerts.append(alert);
  while (alerts.childElementCount > ALERTS_MAX) alerts.firstElementChild.remove();
}

function findAlert(text) {
  return [...at("alerts").children].find((alert) => alert.dataset.text === text);
}

// ---- The connection ------------------------------------------------------------------------------

const STATES = { connecting: "Connecting", open: "Online", waiting: "Offline", closed: "Offline" };

/** What the server's reasons mean to a person; others are shown as they come. */
const REASONS = {
  drain: "The server is about to restart.",
  overload: "The server is too busy.",
  slow_consumer: "This page could not keep up with its rooms.",
};

/** What did not happen, by the event that the server's error answers. */
const REFUSALS = {
  join: "Could not join",
  leave: "Could not leave",
  msg: "Could not send",
};

let countdown;

connection.on("state", (change) => {
  at("status").dataset.state = change.state;
  at("status-text").textContent = STATES[change.state];
  clearInterval(countdown);
  at("offline").hidden = change.state === "open" || (change.state === "connecting" && !change.code);
  at("retry").disabled = change.state === "connecting";
  drawOffline(change);
  if (change.state === "waiting") countdown = setInterval(drawOffline, 250, change);
});

function drawOffline({ state, retryAt, code, reason }) {
  const parts = [whyClosed(code, reason), "You are offline."];
  if (state === "waiting") {
    const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
    parts.push(`Trying again in ${seconds} s.`);
  } else if (state === "connecting") {
    parts.push("Trying now.");
  } else {
    parts.push("The server asked not to come back.");
  }
  const text = parts.filter(Boolean).join(" ");
  if (at("offline-text").textContent !== text) at("offline-text").textContent = text;
}

function whyClosed(code, reason) {
  if (Object.hasOwn(REASONS, reason)) return REASONS[reason];
  if (reason === "") return code === 1009 ? "The message was too large." : "";
  const words = shorten(reason.replaceAll("_", " "), 120);
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}

connection.on("open", () => {
  findAlert(OFFLINE)?.remove();
  if (wasOpen) {
    for (const room of rooms.values()) {
      room.addLine("Back online. What was said in between is not shown.");
    }
    keepEnd();
  }
  wasOpen = true;
});

connection.on("close", () => {
  for (const mine of outgoing.values()) mine.doubt();
});

connection.on("error", (error) => {
  const { event, code, message, room } = Object(error);
  const text = [message, code].find((part) => typeof part === "string" && part !== "");
  const why = shorten(text ?? "The server refused that, and did not say why.", 300);
  const refused = typeof room === "string" ? rooms.get(room) : undefined;
  if (event === "join" && refused) {
    connection.forget(refused.name);
    remove(refused);
    alertPerson(`Could not join ${shorten(refused.name, ROOM_MAX)}: ${why}`);
    return;
  }
  // The server answers in order, so it is the oldest one that was refused. If that was wrong after
  // all, its delivery still settles it.
  if (event === "msg") outgoing.values().next().value?.doubt();
  const what = Object.hasOwn(REFUSALS, event) ? `${REFUSALS[event]}: ` : "";
  alertPerson(what + why);
});

at("retry").addEventListener("click", () => connection.reconnect());

// ---- The person ----------------------------------------------------------------------------------

/**
 * The name is kept for this tab, and as the one to start with in the next. A browser may forbid
 * both; then it is asked for again.
 */
function rememberName(name) {
  person = shorten(name.trim(), NAME_MAX);
  at("person-name").value = person;
  at("welcome-name").value = person;
  at("person-avatar").textContent = initialsOf(person);
  at("person-avatar").className = `avatar hue-${hueOf(person)}`;
  try {
    sessionStorage.setItem("throng.name", person);
    localStorage.setItem("throng.name", person);
  } catch {
    // Nothing to do about it.
  }
}

function recallName() {
  try {
    return sessionStorage.getItem("throng.name") ?? localStorage.getItem("throng.name") ?? "";
  } catch {
    return "";
  }
}

at("person-name").addEventListener("change", ({ target }) => {
  // Nobody talks without a name: an empty one brings the last one back.
  rememberName(target.value.trim() || person);
});
at("person-name").addEventListener(
  "keydown",
  ({ key, target }) => key === "Enter" && target.blur(),
);

// ---- Forms ---------------------------------------------------------------------------------------

at("welcome-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = at("welcome-name").value.trim();
  const room = at("welcome-room").value.trim();
  if (!name || !room) return;
  rememberName(name);
  join(room);
  focusText();
});

at("welcome-room").addEventListener("input", ({ target }) => {
  at("welcome-join").textContent = target.value.trim() ? `Join ${target.value.trim()}` : "Join";
});

at("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const room = at("join-room").value.trim();
  if (!room) return;
  at("join-room").value = "";
  join(room);
  closeDrawer();
  focusText();
});

at("leave").addEventListener("click", () => {
  if (active) leave(active);
  if (active) focusText();
  else at("welcome-join").focus();
});

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text || !active) return;
  if (!say(active, text)) {
    alertPerson(OFFLINE);
    return;
  }
  at("text").value = "";
  fitText();
});

at("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("composer").requestSubmit();
});

at("text").addEventListener("input", fitText);

/** The box is as high as its text, up to the height that chat.css allows. */
function fitText() {
  const text = at("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  keepEnd();
}

/** On a phone the keyboard would cover what the person came to read. */
function focusText() {
  if (matchMedia("(pointer: fine)").matches) at("text").focus();
}

// ---- The window ----------------------------------------------------------------------------------

function openDrawer() {
  at("app").classList.add("drawer");
  at("main").inert = true;
  at("drawer-open").ariaExpanded = "true";
  at("drawer-close").focus();
}

function closeDrawer() {
  if (!at("app").classList.contains("drawer")) return;
  at("app").classList.remove("drawer");
  at("main").inert = false;
  at("drawer-open").ariaExpanded = "false";
  at("drawer-open").focus();
}

at("drawer-open").addEventListener("click", openDrawer);
at("drawer-close").addEventListener("click", closeDrawer);
at("backdrop").addEventListener("click", closeDrawer);
// A wide window shows the rooms beside the timeline, without a drawer.
matchMedia("(max-width: 760px)").addEventListener("change", closeDrawer);
at("newest").addEventListener("click", scrollToEnd);
at("timeline").addEventListener(
  "scroll",
  ({ target }) => {
    following = target.scrollHeight - target.scrollTop - target.clientHeight < END_PX;
    if (following) at("newest").hidden = true;
  },
  { passive: true },
);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeDrawer();
  if (!event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
  const all = [...rooms.values()];
  if (all.length < 2) return;
  event.preventDefault();
  const step = event.key === "ArrowDown" ? 1 : all.length - 1;
  show(all[(all.indexOf(active) + step) % all.length]);
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden || !active) return;
  active.unread = 0;
  active.drawEntry();
  drawUnread();
});

// A phone's keyboard takes half of it.
new ResizeObserver(keepEnd).observe(at("timeline"));

// ---- The start -----------------------------------------------------------------------------------

/** `?name=ada&room=lobby&room=tea`: with a name, given or remembered, the rooms are joined at once. */
function start() {
  const asked = new URLSearchParams(location.search);
  const wanted = asked
    .getAll("room")
    .map((room) => room.trim())
    .filter(Boolean);
  rememberName(asked.get("name")?.trim() || recallName());
  at("welcome-room").value = wanted[0] ?? OFFERED_ROOM;
  at("welcome-room").dispatchEvent(new Event("input"));
  if (person && wanted.length > 0) {
    for (const room of wanted) join(room);
    show(rooms.get(wanted[0]));
    focusText();
  } else {
    show(null);
    (person ? at("welcome-join") : at("welcome-name")).focus();
  }
}

start();
