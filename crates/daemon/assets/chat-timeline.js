/**
 * @file One room's timeline: what was said, in the order of the room, and what of it is missing.
 *
 * Invariants:
 *
 * - A message stands where the room has it, by its offset, and once, whoever brings it: the room as
 *   it is said, the room's history, or the acknowledgement of a message of our own.
 * - Between two messages nothing is missing, unless a line between them says so.
 * - It keeps {@link MESSAGES_MAX} items, and {@link KEPT_MAX} while the person reads what is
 *   earlier; so does what waits for the next frame to be drawn. What leaves it leaves at the top.
 *
 * Offsets that began anew are another era: they are not compared with those before.
 */

import { drawMessage, element, follows } from "./chat-message.js";

/** How many of a room's last messages are shown to who joins it. */
export const LAST = 50;
/** Messages that are kept as the room goes on. Older ones leave the page. */
export const MESSAGES_MAX = 500;
/** Messages that are kept for a person who looks at earlier ones. */
export const KEPT_MAX = 1000;
/** How many messages are fetched at a time. */
const FETCHED = 50;

/**
 * A message, or a line of ours: that stands before the message of the next whole offset.
 *
 * @typedef {object} Item
 * @property {number} era
 * @property {number} offset
 * @property {import("./chat-message.js").Message | null} message
 * @property {boolean} isVeiled Whether it is in its place and not to be seen yet.
 * @property {Missing | null} missing What a line says is missing, if that can be counted.
 * @property {HTMLElement} node
 */

/**
 * @typedef {object} Missing
 * @property {number} from The offset of the first.
 * @property {number} to The offset of the last.
 * @property {keyof typeof WHY_MISSING} reason
 */

/**
 * What a timeline needs of its page.
 *
 * @typedef {object} TimelineOwner
 * @property {(request: HistoryRequest) => Promise<History>} ask Asks for a part of the history.
 * @property {(publication: Publication) => Message} read
 * @property {() => void} changed There is something to draw: `draw` is to be called soon.
 * @property {(change: () => void) => void} keepPlace Calls what adds something at the top; the
 *   person reads on where they were.
 * @property {(error: Error) => void} failed Something could not be fetched.
 */

/** By the library's reason for a gap. */
const WHY_MISSING = {
  evicted: "the server does not keep them any more",
  jump: "the server left them out",
  slow: "this page was too slow",
};
const UNKNOWN_GAP =
  "Something may be missing here: the server began anew, and does not know what was said meanwhile.";

/** A timeline. `node` is what is put on the screen. */
export class Timeline {
  node = element("div", "thread");
  /** Where messages on their way stand: behind all others. */
  sending = element("ol", "messages");
  #owner;
  #messages = element("ol", "messages");
  #beginning = element("p");
  #more = element("button", "quiet", "Earlier messages");
  /** @type {Item[]} Drawn. */
  #items = [];
  /** @type {Item[]} Arrived, not drawn yet. */
  #incoming = [];
  /** Whether some of those left before they were drawn. */
  #isOverrun = false;
  #era = 0;
  /** @type {string | null} The room's epoch; null before the first membership. */
  #epoch = null;
  /** The offset of the last that came or is known to be missing. */
  #reached = 0;
  /** The offset of the first that this era could have brought. */
  #start = 1;
  /** Nothing before this offset is kept, as far as we know. */
  #floor = 1;
  /** Up to this offset, what comes was said before the membership began. */
  #replayedTo = 0;
  /** Whether that is no news: who joins was not there to miss it. */
  #isQuiet = false;
  /** The line that counts what was missed and is replayed now; null if nothing is. */
  #missed = null;
  #isFetching = false;

  /** @param {TimelineOwner} owner */
  constructor(name, owner) {
    this.#owner = owner;
    const first = element("div", "first");
    const title = element("h2");
    title.append("This is ", element("bdi", "", name));
    this.#more.type = "button";
    this.#more.addEventListener("click", () => this.#fetchEarlier());
    first.append(title, this.#beginning, this.#more);
    this.node.append(first, this.#messages, this.sending);
    this.#drawBeginning();
  }

  /** Whether what arrived and is not drawn yet is no news to anybody. */
  get isQuiet() {
    return this.#isQuiet && this.#incoming.every(({ offset }) => offset <= this.#replayedTo);
  }

  // ---- What the room says ----

  /**
   * A membership has begun, or has begun again.
   *
   * @param {{ position: Position, recovered: boolean | null, again: boolean }} joined
   * @param {Position} reached What comes next is behind it.
   * @param {number} awayMs For how long there was no connection before.
   */
  begin({ position, recovered, again }, reached, awayMs) {
    const isNew = reached.epoch !== this.#epoch || reached.offset < this.#reached;
    if (isNew) {
      this.#era += 1;
      this.#epoch = reached.epoch;
      this.#start = reached.offset + 1;
      // A server that has fewer than it was asked for has no others.
      const isAll = again ? !recovered : position.offset - reached.offset < LAST;
      this.#floor = isAll ? this.#start : 1;
    }
    this.#reached = reached.offset;
    this.#replayedTo = position.offset;
    this.#isQuiet = !again;
    this.#missed = again ? { count: 0, item: null, away: describeMs(awayMs) } : null;
    this.#drawBeginning();
  }

  /**
   * Something was said. It is drawn in the next frame.
   *
   * @param {Message} message
   * @param {boolean} isVeiled Whether it is not to be seen before {@link Timeline#unveil}.
   * @returns {boolean} Whether that is news.
   */
  add(message, isVeiled) {
    const isReplayed = message.offset <= this.#replayedTo;
    this.#reached = message.offset;
    if (!isReplayed) this.#missed = null;
    if (this.#missed && !message.own) this.#countMissed(message);
    this.#queue(this.#item(message.offset, drawMessage(message), { message, isVeiled }));
    return !(isReplayed && this.#isQuiet);
  }

  /**
   * Something is missing, behind all that came.
   *
   * @param {import("./throng.js").Gap} gap
   */
  addGap({ from, to, reason }) {
    if (from === null) {
      this.#queue(this.#item(this.#reached + 0.5, element("li", "line", UNKNOWN_GAP)));
      return;
    }
    this.#reached = to;
    const last = this.#incoming.at(-1) ?? this.#items.at(-1);
    const isGoingOn = last?.missing?.to === from - 1 && last.missing.reason === reason;
    if (isGoingOn && last.era === this.#era) {
      last.missing.to = to;
      this.#drawMissing(last);
    } else {
      this.#queue(this.#missingItem({ from, to, reason }));
    }
  }

  /**
   * The server has taken a message of our own.
   *
   * @param {Message} message
   * @param {Position | null} position Where it is in the room.
   */
  taken(message, position) {
    this.unveil();
    if (position === null || position.epoch !== this.#epoch) return;
    this.draw(KEPT_MAX);
    const { offset } = position;
    const oldest = this.#items.find(({ era }) => era === this.#era);
    // It may have left already, with all that was before it.
    if (oldest && offset < oldest.offset) return;
    const own = { ...message, offset };
    this.#insert(this.#item(offset, drawMessage(own), { message: own }));
    this.#drawMissings();
  }

  /** Shows what was not to be seen. */
  unveil() {
    for (const item of [...this.#items, ...this.#incoming]) {
      if (!item.isVeiled) continue;
      item.isVeiled = false;
      item.node.hidden = false;
    }
  }

  // ---- Drawing ----

  /**
   * Draws what has arrived.
   *
   * @param {number} max How many items stay.
   */
  draw(max) {
    const incoming = this.#incoming;
    this.#incoming = [];
    if (this.#isOverrun) this.#trim(0);
    this.#isOverrun = false;
    for (const item of incoming) this.#insert(item);
    this.#trim(max);
    this.#drawBeginning();
  }

  /** @returns {Item} */
  #item(offset, node, { message = null, isVeiled = false, missing = null } = {}) {
    node.hidden = isVeiled;
    return { era: this.#era, offset, message, isVeiled, missing, node };
  }

  #queue(item) {
    this.#incoming.push(item);
    // A hidden page is not drawn, and a fast room does not wait for it.
    if (this.#incoming.length > MESSAGES_MAX) {
      this.#incoming.shift();
      this.#isOverrun = true;
    }
    this.#owner.changed();
  }

  /** Puts an item in its place, unless the same message is there. */
  #insert(item) {
    let index = this.#items.length;
    while (index > 0 && isBefore(item, this.#items[index - 1])) index -= 1;
    const before = this.#items[index - 1];
    if (item.message && before && !isBefore(before, item)) return;
    this.#messages.insertBefore(item.node, this.#items[index]?.node ?? null);
    this.#items.splice(index, 0, item);
    this.#joinUp(index);
    this.#joinUp(index + 1);
  }

  #remove(item) {
    const index = this.#items.indexOf(item);
    if (index < 0) return;
    this.#items.splice(index, 1);
    item.node.remove();
    this.#joinUp(index);
  }

  /** Takes items away at the top. */
  #trim(max) {
    if (this.#items.length <= max) return;
    for (const { node } of this.#items.splice(0, this.#items.length - max)) node.remove();
    // Who said it went with what was taken away.
    this.#joinUp(0);
  }

  /** Puts a message under the name of the one before it, if it belongs there. */
  #joinUp(index) {
    const item = this.#items[index];
    if (!item?.message) return;
    const before = this.#items[index - 1]?.message;
    item.node.classList.toggle("follows", Boolean(before && follows(before, item.message)));
  }

  /** Says above the first message what is before it. */
  #drawBeginning() {
    const text = this.#whatIsEarlier();
    const isMore = text === "";
    const hadFocus = document.activeElement === this.#more;
    this.#beginning.textContent = text;
    this.#more.hidden = !isMore;
    this.#more.textContent = this.#isFetching ? "Fetching" : "Earlier messages";
    this.#more.ariaDisabled = String(this.#isFetching);
    if (hadFocus && !isMore) this.#focus();
  }

  /** Empty if it can be fetched. */
  #whatIsEarlier() {
    if (this.#epoch === null) return "Joining";
    // Where that would be among the offsets of now, nobody can say.
    const isOfBefore = this.#items.length > 0 && this.#items[0].era !== this.#era;
    if (isOfBefore) return "What is earlier cannot be fetched: the server began anew since.";
    if (this.#oldest() <= this.#floor) return "Nothing earlier is kept.";
    if (this.#items.length >= KEPT_MAX) return `Only ${KEPT_MAX} messages are shown at once.`;
    return "";
  }

  /** The offset of the first message of this era that is here, or would be. */
  #oldest() {
    const isOfNow = ({ era, message }) => era === this.#era && message !== null;
    return (this.#items.find(isOfNow) ?? this.#incoming.find(isOfNow))?.offset ?? this.#start;
  }

  /** What had the focus is gone: who uses a keyboard goes on from here. */
  #focus() {
    this.node.parentElement?.focus({ preventScroll: true });
  }

  // ---- What is earlier ----

  async #fetchEarlier() {
    if (this.#isFetching) return;
    this.#isFetching = true;
    this.#drawBeginning();
    const era = this.#era;
    const before = this.#oldest();
    const offset = Math.max(0, before - 1 - FETCHED);
    const found = await this.#fetch(offset + 1, before - 1);
    this.#isFetching = false;
    if (!found || era !== this.#era) {
      this.#drawBeginning();
      return;
    }
    this.#floor = Math.max(this.#floor, found.floor ?? 0);
    this.#owner.keepPlace(() => {
      this.#insertAll(found.messages);
      this.#drawBeginning();
    });
  }

  /**
   * Messages of this era from one offset to another, as far as the server keeps them.
   *
   * @returns {Promise<{ messages: Message[], floor: number | null } | null>} `floor`: nothing before
   *   that offset is kept; null if nothing was found to be gone. Null if the server was not asked.
   */
  async #fetch(from, to) {
    const epoch = this.#epoch;
    let position = { epoch, offset: from - 1 };
    let [messages, floor] = [[], null];
    // The server answers with as much as fits in one answer.
    for (let isMore = true; isMore && position.offset < to;) {
      const request = { since: position, limit: to - position.offset };
      const history = await this.#owner.ask(request).catch(this.#owner.failed);
      if (!history) return null;
      if (history.position?.epoch !== epoch) return { messages: [], floor: to + 1 };
      const first = history.publications[0]?.offset ?? to + 1;
      // The oldest go first: with what is gone now, so is what came before it.
      if (first > position.offset + 1) [messages, floor] = [[], Math.min(first, to + 1)];
      const wanted = history.publications.filter(({ offset }) => offset <= to);
      messages.push(...wanted.map((publication) => this.#owner.read(publication)));
      isMore = history.more && history.position.offset > position.offset;
      ({ position } = history);
    }
    return { messages, floor };
  }

  #insertAll(messages) {
    for (const message of messages) {
      this.#insert(this.#item(message.offset, drawMessage(message), { message }));
    }
    this.#trim(KEPT_MAX);
    this.#drawMissings();
  }

  // ---- What is missing ----

  /** A message that was said while we were away. */
  #countMissed(message) {
    const missed = this.#missed;
    if (missed.item === null) {
      missed.item = this.#item(message.offset - 0.5, element("li", "line"));
      this.#queue(missed.item);
    }
    missed.count += 1;
    const messages = missed.count === 1 ? "1 message" : `${missed.count} messages`;
    missed.item.node.textContent = `You were away for ${missed.away}; ${messages} came meanwhile.`;
  }

  #missingItem(missing) {
    const item = this.#item(missing.from - 0.5, element("li", "line"), { missing });
    this.#drawMissing(item);
    return item;
  }

  #drawMissings() {
    for (const item of this.#items.filter(({ missing }) => missing !== null)) {
      this.#drawMissing(item);
    }
  }

  /** Says how many are missing, and offers to fetch them; says nothing if none is. */
  #drawMissing(item) {
    const { from, to, reason } = item.missing;
    const isThere = ({ era, message, offset }) =>
      era === item.era && message !== null && offset >= from && offset <= to;
    const count = to - from + 1 - this.#items.filter(isThere).length;
    if (count === 0) {
      this.#remove(item);
      return;
    }
    const what = describeMissing(count, from, to);
    item.node.replaceChildren(element("span", "", `${what} here: ${WHY_MISSING[reason]}.`));
    if (reason === "evicted" || item.era !== this.#era) return;
    const load = element("button", "", count === 1 ? "Load it" : "Load them");
    load.type = "button";
    load.addEventListener("click", () => this.#fill(item, load), { once: true });
    item.node.append(load);
  }

  /** Puts what is missing where it belongs, some of it at a time. */
  async #fill(item, button) {
    button.textContent = "Fetching";
    const { from, to, reason } = item.missing;
    const end = Math.min(to, from + FETCHED - 1);
    const found = item.era === this.#era ? await this.#fetch(from, end) : null;
    // It may have left meanwhile.
    if (!this.#items.includes(item)) return;
    if (!found || item.era !== this.#era) {
      this.#drawMissing(item);
      return;
    }
    this.#focus();
    this.#remove(item);
    const first = found.floor ?? from;
    if (first > from) this.#insert(this.#missingItem({ from, to: first - 1, reason: "evicted" }));
    // It may have become longer.
    const last = item.missing.to;
    if (end < last) this.#insert(this.#missingItem({ from: end + 1, to: last, reason }));
    this.#insertAll(found.messages);
  }
}

/** Which messages are missing, by their numbers in the room; some of those may be here. */
function describeMissing(count, from, to) {
  if (from === to) return `Message ${from} is missing`;
  if (count === to - from + 1) return `${count} messages, ${from} to ${to}, are missing`;
  return `${count} of the messages ${from} to ${to} ${count === 1 ? "is" : "are"} missing`;
}

/** A time to a person: it need not be exact. */
function describeMs(ms) {
  const seconds = Math.max(1, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}

/** @param {Item} one @param {Item} other */
function isBefore(one, other) {
  return one.era === other.era ? one.offset < other.offset : one.era < other.era;
}
