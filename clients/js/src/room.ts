/**
 * @file A room, as an application uses it. What it owns is its name; the rest is the connection's.
 */

import { RefusedError } from "./errors.js";
import type { Exchange } from "./exchange.js";
import type { Histories, History, HistoryRequest } from "./histories.js";
import type { JoinOptions, Joined, RoomEvents } from "./membership.js";
import type { Ack, Outbox, PublishOptions } from "./outbox.js";
import type { Publication } from "./publication.js";
import type { Rooms } from "./rooms.js";
import type { PublicationsOptions } from "./stream.js";
import { encode, isReserved, readPosition, utf8Length } from "./wire.js";
import type { Position } from "./wire.js";

/** The longest name of an event, in bytes. */
const EVENT_BYTES_MAX = 64;

/** What of a connection a room uses. @internal */
export interface RoomServices {
  readonly rooms: Rooms;
  readonly outbox: Outbox;
  readonly histories: Histories;
  readonly exchange: Exchange;
}

/**
 * A room of a connection, from {@link Connection.room}.
 *
 * It is a handle: two of the same name and connection are the same room. Promises that it returns
 * may be ignored; `error` of the connection tells of failures too. A mistake in its use is a
 * `TypeError` or a `RangeError`.
 */
export class Room {
  /** What it is called. */
  readonly name: string;
  readonly #of: RoomServices;

  /** @internal */
  constructor(name: string, of: RoomServices) {
    this.name = name;
    this.#of = of;
  }

  /** Whether the server counts us as a member now. False while the connection is away. */
  get isJoined(): boolean {
    return this.#of.rooms.find(this.name)?.isJoined ?? false;
  }

  /**
   * Up to where publications have come; null while the room is not wanted or was never joined. To
   * go on there later, even in another process, keep it and join with `since`.
   */
  get position(): Position | null {
    return this.#of.rooms.find(this.name)?.position ?? null;
  }

  /**
   * Calls `callback` on what happens in the room: see {@link RoomEvents}.
   *
   * Set callbacks before {@link Room.join} and nothing is missed. They are called in the order in
   * which they were set. One that throws is reported as an uncaught error, and neither the others
   * nor the connection notice. They stay when the room is left.
   *
   * @returns What takes the callback away again.
   */
  on<Event extends keyof RoomEvents>(
    event: Event,
    callback: (detail: RoomEvents[Event]) => void,
  ): () => void {
    return this.#of.rooms.use(this.name).on(event, callback);
  }

  /**
   * Publications from now on, in order, each once. Make it before {@link Room.join}, and it has the
   * replay too.
   *
   * It holds at most `bufferMax` publications (default 1000) that are not read yet. At the bound it
   * takes no more: reading goes on to the last one held and then throws {@link LaggedError}, which
   * says where to go on. It ends when the room is left or {@link Connection.close} is called, and
   * throws if the server closed the connection for good or did not take us in. Callbacks and other
   * iterators of the room are not concerned by any of that.
   */
  publications(options: PublicationsOptions = {}): AsyncIterableIterator<Publication> {
    return this.#of.rooms.use(this.name).stream(options);
  }

  /**
   * Joins the room, now and again on every new connection, until {@link Room.leave}. A new
   * connection goes on after the last publication that came.
   *
   * It waits for a connection if there is none. Joining a room that is wanted already changes
   * nothing, and the options are not looked at.
   *
   * @returns Resolves when the membership has begun; publications follow. Rejects with
   *   {@link RefusedError} if the server does not take us in, {@link LeftError} if `leave` comes
   *   before, {@link ClosedError} if the connection is closed; the last does not mean that the room
   *   is not wanted, and {@link Connection.reconnect} will join it.
   */
  join(options: JoinOptions = {}): Promise<Joined> {
    const { since, last } = options;
    if (since !== undefined && last !== undefined) return misuse("join: since or last, not both");
    if (since !== undefined && readPosition(since) === null) return misuse("join: since is none");
    if (last !== undefined && !isCount(last)) return misuse("join: last is no number of them");
    return this.#of.rooms.use(this.name).join(options);
  }

  /**
   * Leaves the room and forgets its position. Nothing of it is seen afterwards, and its iterators
   * end.
   *
   * @returns Resolves when the server has seen it, or the connection is lost, which comes to the
   *   same. Never rejects.
   */
  leave(): Promise<void> {
    return this.#of.rooms.find(this.name)?.leave() ?? Promise.resolve();
  }

  /**
   * Publishes to the room, also if it was not joined.
   *
   * It waits for a connection, and is sent again after a lost one until it is acknowledged: members
   * get it once. Publications of a room are sent in the order of the calls.
   *
   * Bounded: at most `publishesMax` publications of `publishBytesMax` bytes wait at a time, over
   * all rooms; one beyond that is rejected at once.
   *
   * @param data What JSON can say. It is read now; later changes are not published.
   * @returns Resolves when the server has taken it. Rejects with {@link RefusedError} (the server
   *   does not take it; or it is larger than its messages may be), {@link QueueFullError}, or
   *   {@link ClosedError}, and then it was not published; or with {@link UnknownOutcomeError}.
   */
  publish(data: unknown, options: PublishOptions = {}): Promise<Ack> {
    try {
      return this.#of.outbox.publish(this.name, data, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Emits an ephemeral event to the members, now or not at all: for what is worthless later, such
   * as `typing`. It has no offset, is not kept, not repeated and not acknowledged.
   *
   * @param event Its name: 1 to 64 bytes without white space that the protocol does not use itself.
   * @param data What JSON can say; nothing is null.
   * @returns Whether the socket took it. False without a connection, and while more than 1 MiB
   *   still waits in the socket. What the server has against it comes as `error` of the connection.
   * @throws {TypeError} If the name cannot be used, or JSON cannot say the data.
   * @throws {RefusedError} If it is larger than the server's messages may be.
   */
  emit(event: string, data: unknown = null): boolean {
    if (event === "" || /\s/.test(event) || utf8Length(event) > EVENT_BYTES_MAX) {
      throw new TypeError(`no name of an event: "${event}"`);
    }
    if (isReserved(event)) throw new TypeError(`"${event}" is the protocol's own`);
    if (JSON.stringify(data) === undefined) throw new TypeError("JSON cannot say what is emitted");
    const text = encode("emit", { to: this.name, event, data });
    const max = this.#of.exchange.limits?.messageBytes ?? Infinity;
    if (utf8Length(text) > max) {
      const message = `a message over ${max} bytes, which the server does not take`;
      throw new RefusedError("too_large", message, { event: "emit", room: this.name });
    }
    return this.#of.exchange.tell(text);
  }

  /**
   * Asks for a part of the room's history, also if it was not joined. It waits for a connection,
   * and is asked again after a lost one; at most 128 questions wait at a time, over all rooms.
   *
   * @returns Rejects with {@link RefusedError}, {@link QueueFullError} or {@link ClosedError}.
   */
  history(request: HistoryRequest): Promise<History> {
    const { since, limit, last } = request as { since?: Position; limit?: number; last?: number };
    if ((since === undefined) === (last === undefined)) return misuse("history: since or last");
    if (limit !== undefined && !isCount(limit))
      return misuse("history: limit is no number of them");
    if (last !== undefined) {
      if (!isCount(last)) return misuse("history: last is no number of them");
      return this.#of.histories.ask(this.name, { last });
    }
    const position = readPosition(since);
    if (position === null) return misuse("history: since is no position");
    const limited = limit === undefined ? {} : { limit };
    return this.#of.histories.ask(this.name, { since: position, ...limited });
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

/** Not marked as looked at: a mistake should be seen. */
function misuse(what: string): Promise<never> {
  return Promise.reject(new TypeError(what));
}
