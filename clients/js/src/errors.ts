/**
 * @file How things fail: one class for each kind, with values and not sentences.
 *
 * Every class says in its documentation what is known about the outcome, since that is what a
 * caller has to decide by.
 */

import type { Position } from "./wire.js";

/** What all failures of this library are. Mistakes in its use are `TypeError` or `RangeError`. */
export class ThrongError extends Error {
  override name = "ThrongError";
}

/**
 * The server refused a request; it was not carried out.
 *
 * With a pause the library asks again by itself, and the refusal is seen only if a publication was
 * refused for as long as it may wait, or if it was an event that was emitted.
 */
export class RefusedError extends ThrongError {
  override name = "RefusedError";
  /** For programs: `bad_room`, `too_large`, `overloaded`, ... (docs/protocol.md has all). */
  readonly code: string;
  /** The event that was refused, such as `join`; null if the server could not read one. */
  readonly event: string | null;
  /** The room that it was about, as far as the server said. */
  readonly room: string | null;
  /** After how many milliseconds the same may be asked again; null if it is wrong as it is. */
  readonly retryAfterMs: number | null;

  /** @internal */
  constructor(
    code: string,
    message: string,
    about: { event?: string | null; room?: string | null; retryAfterMs?: number | null } = {},
  ) {
    super(message || code);
    this.code = code;
    this.event = about.event ?? null;
    this.room = about.room ?? null;
    this.retryAfterMs = about.retryAfterMs ?? null;
  }
}

/**
 * A publication was sent and no answer came: members may have it, now or soon, or never.
 *
 * Publishing the same again with the same key is safe as long as the server remembers the key (five
 * minutes from the first sending, unless its operator chose otherwise). Later it may be delivered
 * twice.
 */
export class UnknownOutcomeError extends ThrongError {
  override name = "UnknownOutcomeError";
  readonly room: string;
  /** The key that it was sent with. */
  readonly key: string;

  /** @internal */
  constructor(room: string, key: string, why: string, cause?: unknown) {
    super(`whether a publication to "${room}" was delivered is unknown: ${why}`, { cause });
    this.room = room;
    this.key = key;
  }
}

/** As many requests wait as may; this one was not taken and nothing was sent. */
export class QueueFullError extends ThrongError {
  override name = "QueueFullError";
  readonly room: string;
  /** The option that sets the bound, or `histories`, which nothing sets. */
  readonly limit: "publishesMax" | "publishBytesMax" | "histories";
  /** The bound. */
  readonly max: number;

  /** @internal */
  constructor(room: string, limit: QueueFullError["limit"], max: number) {
    super(`too much waits already for what "${room}" was asked (${limit}: ${max})`);
    this.room = room;
    this.limit = limit;
    this.max = max;
  }
}

/** The connection is closed and does not come back by itself; what was asked was not sent. */
export class ClosedError extends ThrongError {
  override name = "ClosedError";
  /** The close code: the server's, or 1000 if it was {@link Connection.close}. */
  readonly code: number;
  /** The server's reason; empty if it gave none. */
  readonly reason: string;

  /** @internal */
  constructor(code: number, reason: string) {
    super(`the connection is closed (${code}${reason && `, ${reason}`})`);
    this.code = code;
    this.reason = reason;
  }
}

/** {@link Room.leave} came before the answer to {@link Room.join}. */
export class LeftError extends ThrongError {
  override name = "LeftError";
  readonly room: string;

  /** @internal */
  constructor(room: string) {
    super(`left "${room}" before it was joined`);
    this.room = room;
  }
}

/**
 * An iterator over publications was read too slowly: its buffer was full, and it has ended.
 *
 * Everything up to {@link LaggedError.position} was handed out. What came after can be had with
 * {@link Room.history}, as long as the server holds it.
 */
export class LaggedError extends ThrongError {
  override name = "LaggedError";
  readonly room: string;
  /** Of the last publication that the iterator handed out. */
  readonly position: Position;
  /** How many publications the buffer held. */
  readonly bufferMax: number;

  /** @internal */
  constructor(room: string, position: Position, bufferMax: number) {
    super(`the reader of "${room}" is more than ${bufferMax} publications behind`);
    this.room = room;
    this.position = position;
    this.bufferMax = bufferMax;
  }
}

/** The server said something that throng.v1 does not allow; it was not used. */
export class ProtocolError extends ThrongError {
  override name = "ProtocolError";

  /** @internal */
  constructor(what: string, cause?: unknown) {
    super(what, { cause });
  }
}
