/**
 * @file What is asked of the server on the connection that there is now, and who waits for answers.
 *
 * An answer belongs to its connection: with it, all questions are forgotten, and whoever asked asks
 * again on the next one. So nothing here outlives a connection, and an answer never meets a
 * question of another.
 */

import type { ClosedError, RefusedError, ThrongError } from "./errors.js";
import type { Link } from "./link.js";
import { encode } from "./wire.js";
import type { Fields, Limits, Message } from "./wire.js";

/** What came back: an event with the question's id. */
export type Answer = Message | RefusedError;

/** What `emit` gives up at: this much that the socket has not sent yet, in bytes. */
const BUFFERED_BYTES_MAX = 1 << 20;

/** Questions by their ids. */
export class Exchange {
  #link: Link | null = null;
  #nextId = 1;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  /** Why there will be no connection; null while there may be one. */
  closed: ClosedError | null = null;
  /** Whether that is for good. */
  isOver = false;

  get isOpen(): boolean {
    return this.#link?.isOpen ?? false;
  }

  /** What the server allows; null without a connection. */
  get limits(): Limits | null {
    return this.#link?.hello?.limits ?? null;
  }

  /** @param link The new connection, which is open, or null if it was lost. */
  use(link: Link | null): void {
    this.#link = link;
    this.#waiting.clear();
  }

  /** A number that no other question has. */
  takeId(): number {
    const id = this.#nextId;
    this.#nextId += 1;
    return id;
  }

  /**
   * Asks.
   *
   * @param answered Is called once at most, and not if the connection is lost before.
   * @returns The question's id, or null if there is no connection to ask on and nothing happened.
   */
  ask(event: string, fields: Fields, answered: (answer: Answer) => void): number | null {
    if (!this.isOpen) return null;
    const id = this.takeId();
    return this.askText(id, encode(event, { id, ...fields }), answered);
  }

  /** Asks with a message that carries `id`. */
  askText(id: number, text: string, answered: (answer: Answer) => void): number | null {
    if (!this.#link?.isOpen) return null;
    this.#waiting.set(id, answered);
    this.#link.send(text);
    return id;
  }

  /** No longer waits for an answer. */
  forget(id: number | null): void {
    if (id !== null) this.#waiting.delete(id);
  }

  /** Sends a message that has no answer, unless the socket is behind. */
  tell(text: string): boolean {
    if (!this.#link?.isOpen || this.#link.bufferedBytes > BUFFERED_BYTES_MAX) return false;
    this.#link.send(text);
    return true;
  }

  /** Hands an answer to whoever asked. Returns whether anybody did. */
  answer(id: unknown, answer: Answer): boolean {
    const answered = typeof id === "number" ? this.#waiting.get(id) : undefined;
    if (!answered) return false;
    this.#waiting.delete(id as number);
    answered(answer);
    return true;
  }
}

/** Is told what went wrong, also if somebody waits for it to go right. */
export type Tell = (error: ThrongError) => void;
