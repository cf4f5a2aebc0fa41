/**
 * @file Messages of the chat page: from what somebody published to what is drawn.
 *
 * What comes from the network is text. It reaches the page through `textContent` alone.
 */

/** Characters of one message that are drawn; somebody else's program may send any number. */
const TEXT_MAX = 4000;
export const NAME_MAX = 40;
/** Messages of one person this close together stand under one name. */
const FOLLOW_MS = 3 * 60_000;
/** Hues that a name's avatar can have; chat.css has a class for each. */
const HUES = 8;
/** The last moment that a `Date` can have. */
const DATE_MAX_MS = 8.64e15;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/**
 * A message as it is drawn.
 *
 * @typedef {object} Message
 * @property {number} offset Its place in the room; NaN while it has none.
 * @property {string | null} from The connection that published it.
 * @property {string} name What its sender goes by, in the sender's words.
 * @property {string} text
 * @property {boolean} data Whether `text` is JSON and not somebody's words.
 * @property {number} at When the server took it, by the server's clock, in Unix milliseconds.
 * @property {boolean} own Whether one of this page's connections published it.
 */

/**
 * Reads what somebody published. The data may be any JSON at all: this page's object, or whatever
 * another program sends. What the server says around it can be believed.
 *
 * @param {{ offset?: number, from: string | null, at: number | null, data: unknown }} publication
 * @param {boolean} own
 * @returns {Message}
 */
export function readMessage({ offset = NaN, from, at, data }, own) {
  const words = typeof data === "string" ? data : Object(data).text;
  const isWords = typeof words === "string";
  const text = isWords ? words : printJson(data);
  return {
    offset,
    from,
    name: readName(data),
    text: shorten(text, TEXT_MAX),
    data: !isWords,
    at: at !== null && at <= DATE_MAX_MS ? at : Date.now(),
    own,
  };
}

/** The name in what somebody sent. */
export function readName(data) {
  const { name } = Object(data);
  return (typeof name === "string" && shorten(name.trim(), NAME_MAX)) || "Someone";
}

/**
 * Whether a message stands under the name of the one before it. Who only goes by the same name has
 * another connection, and gets a name of their own.
 *
 * @param {Message} before
 * @param {Message} message
 */
export function follows(before, message) {
  const isSame = ["own", "name", "from"].every((what) => before[what] === message[what]);
  return isSame && Math.abs(message.at - before.at) < FOLLOW_MS;
}

/** At most `length` units of `text`, and never half a letter. */
export function shorten(text, length) {
  if (text.length <= length) return text;
  return `${text.slice(0, length - 1).replace(/[\ud800-\udbff]$/, "")}…`;
}

function printJson(value) {
  try {
    return JSON.stringify(value, null, 2);
  } catch {
    return "(nested too deeply to be shown)";
  }
}

export function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  return node;
}

/** @param {Message} message */
export function drawMessage(message) {
  const node = element("li", "message");
  node.classList.toggle("own", message.own);
  const avatar = element("span", `avatar hue-${hueOf(message.name)}`, initialsOf(message.name));
  avatar.ariaHidden = "true";

  const by = element("p", "by");
  by.append(element("bdi", "name", message.own ? "You" : message.name), drawTime(message.at));

  const bubble = element("div", message.data ? "bubble data" : "bubble");
  bubble.dir = "auto";
  appendText(bubble, message.text);

  const stack = element("div", "stack");
  stack.append(by, bubble);
  node.append(avatar, stack);
  return node;
}

function drawTime(at) {
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  const time = element("time", "", isToday ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`);
  time.dateTime = new Date(at).toISOString();
  time.title = `${moment.format(at)}, by the server’s clock`;
  return time;
}

/** Appends text, with web addresses in it as links. */
function appendText(node, text) {
  let end = 0;
  for (const { 0: match, index } of text.matchAll(/https?:\/\/[^\s<>"']*[^\s<>"'.,:;!?)\]}]/g)) {
    if (!URL.canParse(match)) continue;
    const link = element("a", "", match);
    link.href = match;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    node.append(text.slice(end, index), link);
    end = index + match.length;
  }
  node.append(text.slice(end));
}

export function initialsOf(name) {
  const words = name.split(/\s+/).filter(Boolean);
  const letters = [words[0], words.length > 1 ? words.at(-1) : ""].map(
    (word) => [...(word ?? "")][0] ?? "",
  );
  return letters.join("").toUpperCase();
}

export function hueOf(name) {
  let hash = 0;
  for (const letter of name) hash = (Math.imul(hash, 31) + letter.codePointAt(0)) >>> 0;
  return hash % HUES;
}
