/**
 * @file Who is typing in a room.
 *
 * Pages say it now and then while somebody types, and forget it soon if they are not told again:
 * such events may be lost, and nobody says that they have stopped.
 */

/** The name of the event. */
export const TYPING = "typing";
/** How long a page that has said it says nothing more of it. */
export const SAID_EVERY_MS = 2000;
/** After so long without word of it, somebody has stopped; one event may be lost. */
const FORGOTTEN_MS = 5000;
/** More than that are "several people", and nobody has to know how many. */
const TYPERS_MAX = 8;

/** The people of one room who are typing. */
export class Typing {
  /** @type {Map<string | null, { name: string, timer: number }>} By connection. */
  #typers = new Map();
  #changed;

  /** @param {() => void} changed Is called when `text` is another. */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Somebody is. */
  heard(from, name) {
    if (!this.#typers.has(from) && this.#typers.size >= TYPERS_MAX) return;
    clearTimeout(this.#typers.get(from)?.timer);
    const timer = setTimeout(() => this.stopped(from), FORGOTTEN_MS);
    this.#typers.set(from, { name, timer });
    this.#changed();
  }

  /** Somebody is not, or not any more. */
  stopped(from) {
    clearTimeout(this.#typers.get(from)?.timer);
    if (this.#typers.delete(from)) this.#changed();
  }

  /** Forgets everybody. */
  end() {
    for (const { timer } of this.#typers.values()) clearTimeout(timer);
    this.#typers.clear();
  }

  /** In words; empty if nobody is. */
  get text() {
    // Isolated, so that a name which is written from right to left stays in its place.
    const names = Array.from(this.#typers.values(), ({ name }) => `\u2068${name}\u2069`);
    if (names.length === 0) return "";
    if (names.length === 1) return `${names[0]} is typing`;
    if (names.length === 2) return `${names[0]} and ${names[1]} are typing`;
    return "Several people are typing";
  }
}
