/**
 * @file Messages of the chat page: from what somebody published to what is drawn.
 *
 * What comes from the network is text. It reaches the page through `textContent` alone.
 */

/** Characters of one message that are drawn; somebody else's program may send any number. */
const TEXT_MAX = 4000;
export const NAME_MAX = 40;
/** Hues that a name's avatar can have; chat.css has a class for each. */
const HUES = 8;

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/**
 * A message as it is drawn.
 *
 * @typedef {object} Message
 * @property {string | null} id The sender's mark, by which we know our own; null if there is none.
 * @property {string | null} room The room that the sender named.
 * @property {string} name
 * @property {string} text
 * @property {boolean} data Whether `text` is JSON and not somebody's words.
 * @property {number} sentAt By the sender's clock; NaN if unknown.
 * @property {number} arrivedAt By our clock: the one that orders what this person sees.
 * @property {boolean} own
 * @property {string} origin What to say about where it came from, empty if that is plain.
 */

/**
 * Reads what somebody published. It may be any JSON at all: this page's object, or whatever a
 * program that speaks golem's wire sends.
 *
 * @returns {Message}
 */
export function readMessage(value) {
  const fields = typeof value === "object" && value !== null ? value : {};
  const words = typeof value === "string" ? value : fields.text;
  const isWords = typeof words === "string";
  const text = isWords ? words : printJson(value);
  return {
    id: typeof fields.id === "string" ? fields.id : null,
    room: typeof fields.room === "string" ? fields.room : null,
    name: (typeof fields.name === "string" && shorten(fields.name.trim(), NAME_MAX)) || "Someone",
    text: shorten(text, TEXT_MAX),
    data: !isWords,
    sentAt: typeof fields.time === "string" ? Date.parse(fields.time) : NaN,
    arrivedAt: Date.now(),
    own: false,
    origin: "",
  };
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

/**
 * @param {Message} message
 * @param {boolean} follows Whether it stands under the same name as the one before.
 */
export function drawMessage(message, follows) {
  const node = element("li", "message");
  node.classList.toggle("own", message.own);
  node.classList.toggle("follows", follows);
  const avatar = element("span", `avatar hue-${hueOf(message.name)}`, initialsOf(message.name));
  avatar.ariaHidden = "true";

  const by = element("p", "by");
  const time = element("time", "", clock.format(message.arrivedAt));
  time.dateTime = new Date(message.arrivedAt).toISOString();
  time.title = Number.isNaN(message.sentAt)
    ? `Arrived ${moment.format(message.arrivedAt)}`
    : `Sent ${moment.format(message.sentAt)}, by the sender’s clock`;
  by.append(element("bdi", "name", message.own ? "You" : message.name), time);
  if (message.origin) by.append(element("span", "origin", message.origin));

  const bubble = element("div", message.data ? "bubble data" : "bubble");
  bubble.dir = "auto";
  appendText(bubble, message.text);

  const stack = element("div", "stack");
  stack.append(by, bubble);
  node.append(avatar, stack);
  return node;
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
