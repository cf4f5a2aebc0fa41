/**
 * @file The chat page: rooms, one connection, a person, and the window.
 *
 * Invariants:
 *
 * - What comes from the network is text. It reaches the page through `textContent` alone.
 * - A message of one's own is on the screen once: at the end while it is on its way, and when the
 *   server has taken it, where the server put it, which is where everybody else sees it.
 * - Own messages are those that the server says came from this page's connections, whatever stands
 *   in them.
 * - Nothing grows without a bound: see chat-timeline.js and {@link OUTGOING_MAX}.
 */

import { NAME_MAX, element, hueOf, initialsOf, readMessage, readName, shorten } from "./chat-message.js";
import { Outgoing } from "./chat-outgoing.js";
import { KEPT_MAX, LAST, MESSAGES_MAX, Timeline } from "./chat-timeline.js";
import { SAID_EVERY_MS, TYPING, Typing } from "./chat-typing.js";
import { ProtocolError, RefusedError, connect } from "./throng.js";

/** Characters of a room's name inside a sentence. */
const ROOM_MAX = 64;
/** Messages of this page that wait to be sent, or for the person to do something about them. */
const OUTGOING_MAX = 200;
/** Connections that this page has had: as many as it knows its own messages by. */
const OWN_CONNECTIONS_MAX = 50;
/** This close to the end of a timeline (in pixels), it follows new messages. */
const END_PX = 48;
/** Error messages on the screen at once; the oldest goes. */
const ALERTS_MAX = 3;
const OFFERED_ROOM = "lobby";

const at = (id) => document.getElementById(id);

/** @type {Map<string, Room>} In the order they were joined. */
const rooms = new Map();
/** @type {Room | null} The room on the screen. */
let active = null;
/** @type {Set<Room>} Rooms with something to draw in the next frame. */
const undrawn = new Set();
let person = "";
/** Whether the timeline stays at its end when it grows or the window shrinks. */
let following = true;
/** Whether a server has said that it does not pass on who is typing. */
let isTypingRefused = false;

/** Where the WebSocket is, as the server says in the page. */
const address = document.querySelector('meta[name="throng-websocket"]').content;
const connection = connect(address);

// ---- What is ours --------------------------------------------------------------------------------

/** @type {Set<string>} Names of the connections that this tab has had, also before it was reloaded. */
const ownConnections = new Set(recall("sessionStorage", "throng.connections")?.split(" "));

function rememberConnection(name) {
  ownConnections.add(name);
  while (ownConnections.size > OWN_CONNECTIONS_MAX) {
    ownConnections.delete(ownConnections.values().next().value);
  }
  remember("sessionStorage", "throng.connections", [...ownConnections].join(" "));
}

/** What the browser keeps for us; null if there is nothing, or if it does not keep anything. */
function recall(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

function remember(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch {
    // Then it is asked for again, or not known.
  }
}

// ---- Rooms ---------------------------------------------------------------------------------------

/** One joined room: its timeline, its entry in the list of rooms, and what is unread. */
class Room {
  constructor(name) {
    this.name = name;
    this.handle = connection.room(name);
    this.unread = 0;
    this.draft = "";
    /** Where the person was reading; null at the end. */
    this.scrollTop = null;
    /** Since when nothing is heard of it, in Unix milliseconds; null while it is. */
    this.lostAt = null;
    /** @type {Set<Outgoing>} Messages of this page that do not stand in the timeline yet. */
    this.outgoing = new Set();
    /** When it was last said here that the person is typing. */
    this.typingSaidAt = 0;
    this.typing = new Typing(() => this === active && drawTyping());
    this.timeline = new Timeline(name, {
      ask: (request) => this.handle.history(request),
      read,
      changed: () => draw(this),
      keepPlace: (change) => (this === active ? keepPlace(change) : change()),
      failed: (error) => this.alert("Could not fetch messages of", error.message),
    });
    this.listen();
    this.drawFirst();
  }

  /** Before it is joined, so that nothing is missed. */
  listen() {
    const { handle, timeline } = this;
    this.offs = [
      handle.on("joined", (joined) => this.begin(joined)),
      handle.on("publication", (publication) => this.hear(publication)),
      handle.on("gap", (gap) => timeline.addGap(gap)),
      handle.on("event", (event) => this.notice(event)),
      handle.on("refused", (error) => {
        remove(this);
        this.alert("Could not join", error.message);
      }),
    ];
  }

  drawFirst() {
    this.entry = element("li");
    this.button = element("button", "room");
    this.button.type = "button";
    this.button.addEventListener("click", () => {
      show(this);
      closeDrawer();
      focusText();
    });
    this.badge = element("span", "badge");
    const label = element("bdi", "room-name", this.name);
    const hash = element("span", "hash", "#");
    hash.ariaHidden = "true";
    this.button.append(hash, label, this.badge);
    this.entry.append(this.button);
    this.drawEntry();
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

  /** Draws what has arrived. */
  drawTimeline() {
    const isRead = this === active && !following;
    this.timeline.draw(isRead ? KEPT_MAX : MESSAGES_MAX);
  }

  /** What is said is heard from now on, or again. */
  begin(joined) {
    const awayMs = this.lostAt === null ? 0 : Date.now() - this.lostAt;
    this.lostAt = null;
    this.timeline.begin(joined, this.handle.position, awayMs);
  }

  /** Somebody has said something. */
  hear(publication) {
    const message = read(publication);
    // Ours is on the screen already, at the end, until the server has acknowledged it.
    const isVeiled = message.own && [...this.outgoing].some(({ isPending }) => isPending);
    const isNews = this.timeline.add(message, isVeiled);
    this.typing.stopped(publication.from);
    if (isNews && !message.own) this.countUnread();
  }

  /** Somebody has emitted something. */
  notice({ event, from, data }) {
    if (event === TYPING && !ownConnections.has(from)) this.typing.heard(from, readName(data));
  }

  countUnread() {
    if (this === active && !document.hidden) return;
    this.unread += 1;
    this.drawEntry();
    drawUnread();
  }

  /** Publishes what the person has written. */
  say(text) {
    const outgoing = new Outgoing({ name: person, text }, this.outgoingOwner());
    this.outgoing.add(outgoing);
    this.timeline.sending.append(outgoing.node);
    // Who is told of the message knows that the typing is over.
    this.typingSaidAt = 0;
  }

  outgoingOwner() {
    return {
      publish: (data, options) => this.handle.publish(data, options),
      isOnline: () => connection.state === "open",
      taken: (outgoing, { position }) => {
        this.drop(outgoing);
        this.timeline.taken(outgoing.message, position);
        if (this === active) keepEnd();
      },
      failed: (_, why) => {
        this.timeline.unveil();
        if (this === active) keepEnd();
        else this.alert(`${why} It was for`, "");
      },
      removed: (outgoing) => this.drop(outgoing),
      pressed: () => at("text").focus(),
    };
  }

  drop(outgoing) {
    this.outgoing.delete(outgoing);
    outgoing.node.remove();
  }

  /** Says to the others that the person is typing, now and then. */
  sayTyping() {
    const now = Date.now();
    if (isTypingRefused || now - this.typingSaidAt < SAID_EVERY_MS) return;
    if (this.handle.emit(TYPING, { name: person })) this.typingSaidAt = now;
  }

  alert(what, why) {
    const name = shorten(this.name, ROOM_MAX);
    alertPerson(why ? `${what} ${name}: ${shorten(why, 300)}.` : `${what} ${name}.`);
  }

  /** Listens no more. */
  end() {
    for (const off of this.offs) off();
    this.typing.end();
  }
}

function read(publication) {
  return readMessage(publication, ownConnections.has(publication.from));
}

function join(name) {
  let room = rooms.get(name);
  if (!room) {
    room = new Room(name);
    rooms.set(name, room);
    at("rooms").append(room.entry);
    room.handle.join({ last: LAST });
  }
  show(room);
  return room;
}

/** What was sent before is still delivered; what fails of it is told. */
function leave(room) {
  room.handle.leave();
  remove(room);
}

function remove(room) {
  const names = [...rooms.keys()];
  const index = names.indexOf(room.name);
  rooms.delete(room.name);
  undrawn.delete(room);
  room.end();
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
  drawTyping();
  drawAddress();
}

function showTimeline(room) {
  room.timeline.draw(room.scrollTop === null ? MESSAGES_MAX : KEPT_MAX);
  room.unread = 0;
  room.drawEntry();
  const timeline = at("timeline");
  quietly(() => timeline.replaceChildren(room.timeline.node));
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
  for (const room of undrawn) {
    if (room === active && room.timeline.isQuiet) quietly(() => room.drawTimeline());
    else room.drawTimeline();
  }
  undrawn.clear();
  if (!news) return;
  keepEnd();
  at("newest").hidden = following;
}

/** Changes the timeline unannounced: many messages that are not new would help nobody. */
function quietly(change) {
  const timeline = at("timeline");
  timeline.ariaLive = "off";
  change();
  requestAnimationFrame(() => (timeline.ariaLive = "polite"));
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

/** For when the timeline becomes longer at its beginning. */
function keepPlace(change) {
  const timeline = at("timeline");
  const toEnd = timeline.scrollHeight - timeline.scrollTop;
  quietly(change);
  timeline.scrollTop = timeline.scrollHeight - toEnd;
}

function drawTyping() {
  at("typing").textContent = active?.typing.text ?? "";
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

const STATES = { connecting: "Connecting", open: "Online", waiting: "Offline", closed: "Stopped" };

/** What reasons mean to a person, the server's and the library's; others are shown as they come. */
const REASONS = {
  "connect timeout": "The server does not answer.",
  drain: "The server is about to restart.",
  overload: "The server is too busy.",
  "silent server": "The server does not answer any more.",
  slow_consumer: "This page could not keep up with its rooms.",
};

/** Refusals that are told where the person waits for something else: in the room, at the message. */
const TOLD_ELSEWHERE = new Set(["join", "msg", "history"]);

let countdown;

connection.on("state", (status) => {
  const { state, code } = status;
  drawState(status);
  if (state === "open") rememberConnection(connection.hello.connection);
  for (const room of rooms.values()) {
    if (code !== null) room.lostAt ??= Date.now();
    for (const outgoing of room.outgoing) outgoing.drawNote();
  }
  keepEnd();
});

function drawState(status) {
  const { state, code, reason } = status;
  at("status").dataset.state = state;
  // Who sees the page reads the reason below; the line there counts down, and is not read out.
  const why = state === "open" ? "" : whyClosed(code, reason);
  at("status-text").replaceChildren(STATES[state], element("span", "hidden", why && `. ${why}`));
  clearInterval(countdown);
  at("offline").hidden = state === "open" || (state === "connecting" && code === null);
  at("retry").disabled = state === "connecting";
  if (state !== "open") drawOffline(status);
  if (state === "waiting") countdown = setInterval(drawOffline, 250, status);
}

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

connection.on("error", (error) => {
  if (error instanceof ProtocolError) {
    alertPerson(`The server is not understood: ${shorten(error.message, 300)}.`);
  } else if (error instanceof RefusedError && error.event === "emit") {
    isTypingRefused = true;
  } else if (error instanceof RefusedError && !TOLD_ELSEWHERE.has(error.event)) {
    alertPerson(`The server refused something: ${shorten(error.message, 300)}.`);
  }
});

at("retry").addEventListener("click", () => connection.reconnect());

// ---- The person ----------------------------------------------------------------------------------

/** The name is kept for this tab, and as the one to start with in the next. */
function rememberName(name) {
  person = shorten(name.trim(), NAME_MAX);
  at("person-name").value = person;
  at("welcome-name").value = person;
  at("person-avatar").textContent = initialsOf(person);
  at("person-avatar").className = `avatar hue-${hueOf(person)}`;
  for (const storage of ["sessionStorage", "localStorage"]) remember(storage, "throng.name", person);
}

function recallName() {
  return recall("sessionStorage", "throng.name") ?? recall("localStorage", "throng.name") ?? "";
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
  const count = [...rooms.values()].reduce((sum, { outgoing }) => sum + outgoing.size, 0);
  if (count >= OUTGOING_MAX) {
    alertPerson("Too many messages are waiting. This one stays in its box.");
    return;
  }
  active.say(text);
  at("text").value = "";
  fitText();
  scrollToEnd();
});

at("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("composer").requestSubmit();
});

at("text").addEventListener("input", () => {
  fitText();
  if (at("text").value.trim()) active?.sayTyping();
});

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

// What waits to be sent is lost with the page: the browser asks whether that is meant.
addEventListener("beforeunload", (event) => {
  if (connection.unacknowledged > 0) event.preventDefault();
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
