/**
 * @file A connection that comes back: its state, its attempts, and who is told of what happens.
 *
 * It owns one {@link Link} at a time and what outlives it: the rooms, the publications that are not
 * acknowledged, the questions that are not answered.
 */

import { Backoff, comesBack, readRetry } from "./backoff.js";
import { Callbacks } from "./callbacks.js";
import { ClosedError, ProtocolError, RefusedError } from "./errors.js";
import type { ThrongError } from "./errors.js";
import { Exchange } from "./exchange.js";
import { Histories } from "./histories.js";
import { Link } from "./link.js";
import type { End, LinkOwner } from "./link.js";
import { resolveUrl, settle } from "./options.js";
import type { ConnectOptions, Settings } from "./options.js";
import { Outbox } from "./outbox.js";
import { Room } from "./room.js";
import { Rooms } from "./rooms.js";
import { Timer } from "./timer.js";
import { isReserved, readString } from "./wire.js";
import type { Fields, Hello } from "./wire.js";

/**
 * What a connection is doing.
 *
 * - `connecting`: an attempt is under way.
 * - `open`: the server has greeted; what is asked goes out at once.
 * - `waiting`: the next attempt is at `retryAt`.
 * - `closed`: it does not come back by itself.
 */
export type State = "connecting" | "open" | "waiting" | "closed";

/** The state with what belongs to it. */
export interface Status {
  readonly state: State;
  /** When the next attempt begins, as `Date.now()` counts; null unless the state is `waiting`. */
  readonly retryAt: number | null;
  /**
   * How the connection before this state ended: a close code, 1006 without a close frame, 1000 for
   * {@link Connection.close}. Null if there was none, and while it is open.
   */
  readonly code: number | null;
  /** Why, in the server's words; in ours if we gave it up; empty if nobody said. */
  readonly reason: string;
}

/** What {@link Connection.on} tells of. */
export interface ConnectionEvents {
  /** The state is another, or `retryAt` is. */
  state: Status;
  /**
   * Something failed: what the server refused, what could not be sent, what it said that makes no
   * sense. Also if a promise has rejected for it, but not if the application wished it so (`close`,
   * `leave`, a signal).
   */
  error: ThrongError;
  /** The server's application sent something that is of no room: to this connection, or to all. */
  event: Sent;
}

/** An event of the server's application that is of no room. */
export interface Sent {
  /** Its name. */
  readonly event: string;
  /** Any JSON; null if there was none. */
  readonly data: unknown;
}

/**
 * Opens a connection to a Throng server.
 *
 * It begins at once. Set callbacks in the same turn and none is missed.
 *
 * @param url Where the server's WebSocket is: absolute (`wss://host/ws`), or relative to the page.
 * @throws {TypeError} If that is no address, or there is no WebSocket here.
 * @throws {RangeError} If an option cannot be used.
 */
export function connect(url: string | URL, options: ConnectOptions = {}): Connection {
  return new Connection(resolveUrl(url), settle(options));
}

/** A connection that comes back, from {@link connect}. */
export class Connection {
  /** The address, absolute. */
  readonly url: string;
  readonly #settings: Settings;
  readonly #callbacks = new Callbacks<ConnectionEvents>(["state", "error", "event"]);
  readonly #exchange = new Exchange();
  readonly #rooms: Rooms;
  readonly #outbox: Outbox;
  readonly #histories: Histories;
  readonly #backoff: Backoff;
  readonly #retry: Timer;
  readonly #owner: LinkOwner;
  readonly #handleOnline = () => this.#wakeUp();
  readonly #handleVisibility = () => {
    if (this.#settings.page.document?.visibilityState === "visible") this.#wakeUp();
  };
  #link: Link | null = null;
  #status: Status = { state: "connecting", retryAt: null, code: null, reason: "" };
  #openedAt: number | null = null;
  /** Until when the server wants us to stay away. */
  #notBefore = 0;

  /** @internal */
  constructor(url: string, settings: Settings) {
    const { clock, random } = settings;
    const tell = (error: ThrongError) => this.#callbacks.raise("error", error);
    this.url = url;
    this.#settings = settings;
    this.#rooms = new Rooms(this.#exchange, clock, tell);
    this.#outbox = new Outbox(settings, this.#exchange, tell);
    this.#histories = new Histories(this.#exchange, clock, tell);
    this.#backoff = new Backoff(random);
    this.#retry = new Timer(clock);
    this.#owner = {
      opened: () => this.#handleOpen(),
      message: (event, fields) => this.#handleMessage(event, fields),
      misheard: tell,
      lost: (end) => this.#handleEnd(end),
    };
    settings.page.window?.addEventListener("online", this.#handleOnline);
    settings.page.document?.addEventListener("visibilitychange", this.#handleVisibility);
    this.#attempt();
  }

  /** What it is doing now. */
  get state(): State {
    return this.#status.state;
  }

  /** What it is doing now, and why. */
  get status(): Status {
    return this.#status;
  }

  /** The server's greeting; null unless the state is `open`. */
  get hello(): Hello | null {
    return this.#link?.hello ?? null;
  }

  /** The names of the rooms that are wanted: joined, or to be joined when that is possible. */
  get rooms(): string[] {
    return this.#rooms.wanted;
  }

  /** How many publications are not acknowledged yet. */
  get unacknowledged(): number {
    return this.#outbox.count;
  }

  /**
   * A room. It costs nothing until it is used.
   *
   * @throws {TypeError} If the name is empty.
   */
  room(name: string): Room {
    if (typeof name !== "string" || name === "") throw new TypeError("a room needs a name");
    return new Room(name, {
      rooms: this.#rooms,
      outbox: this.#outbox,
      histories: this.#histories,
      exchange: this.#exchange,
    });
  }

  /**
   * Calls `callback` on what happens to the connection: see {@link ConnectionEvents}.
   *
   * Callbacks are called in the order in which they were set. One that throws is reported as an
   * uncaught error, and neither the others nor the connection notice.
   *
   * @returns What takes the callback away again.
   */
  on<Event extends keyof ConnectionEvents>(
    event: Event,
    callback: (detail: ConnectionEvents[Event]) => void,
  ): () => void {
    return this.#callbacks.on(event, callback);
  }

  /**
   * Connects at once, instead of waiting, or of staying closed as the server wished. Rooms that are
   * wanted are joined again. Does nothing in the other states, nor after {@link Connection.close}.
   */
  reconnect(): void {
    if (this.#exchange.isOver) return;
    if (this.state === "waiting" || this.state === "closed") this.#attempt();
  }

  /**
   * Closes for good. Everything that waits is settled: promises reject, iterators end. Whether
   * publications that were under way have arrived is unknown, and their promises say so.
   */
  close(): void {
    if (this.#exchange.isOver) return;
    const { window, document } = this.#settings.page;
    window?.removeEventListener("online", this.#handleOnline);
    document?.removeEventListener("visibilitychange", this.#handleVisibility);
    this.#retry.stop();
    const link = this.#link;
    this.#forgetLink();
    link?.end();
    const error = new ClosedError(1000, "");
    this.#exchange.closed = error;
    this.#exchange.isOver = true;
    this.#become({ state: "closed", retryAt: null, code: 1000, reason: "" }, () => {
      this.#rooms.closedForGood(error);
      this.#outbox.close(error, false);
      this.#histories.close(error);
    });
  }

  #attempt(): void {
    this.#retry.stop();
    this.#exchange.closed = null;
    const { code, reason } = this.#status;
    this.#become({ state: "connecting", retryAt: null, code, reason }, () => {
      try {
        this.#link = new Link(this.url, this.#settings, this.#owner);
      } catch (cause) {
        this.#callbacks.raise("error", new ProtocolError("no connection can be tried here", cause));
        if (!this.#exchange.isOver) this.#handleEnd({ code: 1006, reason: "", afterMs: 0 });
      }
    });
  }

  #handleOpen(): void {
    this.#openedAt = this.#settings.clock.now();
    this.#exchange.use(this.#link);
    this.#become({ state: "open", retryAt: null, code: null, reason: "" }, () => {
      // Rooms first: who publishes to a room it is in wants to see that.
      this.#rooms.connected();
      this.#outbox.connected();
      this.#histories.connected();
    });
  }

  #handleMessage(event: string, fields: Fields): void {
    switch (event) {
      case "ack":
      case "history":
      case "joined":
      case "left":
        this.#exchange.answer(fields["id"], { event, fields });
        break;
      case "error":
        this.#handleRefusal(fields);
        break;
      case "gap":
      case "msg":
        this.#rooms.handle(event, fields);
        break;
      default:
        // What we do not know may be of a later version; it is no concern of ours.
        if (isReserved(event)) break;
        if ("room" in fields) this.#rooms.handle(event, fields);
        else if ("data" in fields) this.#callbacks.raise("event", { event, data: fields["data"] });
    }
  }

  #handleRefusal(fields: Fields): void {
    const about = {
      event: readString(fields["event"]),
      room: readString(fields["room"]),
      retryAfterMs: readRetry(fields["retry_after_ms"]),
    };
    const message = readString(fields["message"]) ?? "";
    const error = new RefusedError(readString(fields["code"]) ?? "", message, about);
    if (!this.#exchange.answer(fields["id"], error)) this.#callbacks.raise("error", error);
  }

  #handleEnd(end: End): void {
    const { clock } = this.#settings;
    const lastedMs = this.#openedAt === null ? 0 : clock.now() - this.#openedAt;
    this.#forgetLink();
    const { code, reason } = end;
    if (!comesBack(code)) {
      this.#stop(new ClosedError(code, reason));
      return;
    }
    const delayMs = end.afterMs + this.#backoff.next(lastedMs);
    this.#notBefore = clock.now() + end.afterMs;
    this.#wait(delayMs, code, reason);
  }

  #forgetLink(): void {
    this.#link = null;
    this.#openedAt = null;
    this.#exchange.use(null);
    this.#rooms.connectionLost();
    this.#outbox.connectionLost();
  }

  #wait(delayMs: number, code: number | null, reason: string): void {
    this.#retry.start(delayMs, () => this.#attempt());
    const retryAt = this.#settings.clock.now() + delayMs;
    this.#become({ state: "waiting", retryAt, code, reason });
  }

  /** The server does not want us back. What is wanted stays wanted, should a person try again. */
  #stop(error: ClosedError): void {
    const { code, reason } = error;
    this.#exchange.closed = error;
    this.#become({ state: "closed", retryAt: null, code, reason }, () => {
      this.#rooms.closed(error);
      this.#outbox.close(error, true);
      this.#histories.close(error);
    });
  }

  /**
   * The network or the person is back: no reason to sit out the rest of the pause, but for the part
   * that the server asked for. A connection that seems open may have died meanwhile.
   */
  #wakeUp(): void {
    this.#link?.probe();
    const { state, retryAt, code, reason } = this.#status;
    if (state !== "waiting") return;
    const remainingMs = this.#notBefore - this.#settings.clock.now();
    if (remainingMs <= 0) this.#attempt();
    else if (retryAt !== this.#notBefore) this.#wait(remainingMs, code, reason);
  }

  /**
   * @param settle What belongs to the change. It may call callbacks that change the state again.
   */
  #become(status: Status, settle?: () => void): void {
    this.#status = status;
    settle?.();
    if (this.#status === status) this.#callbacks.raise("state", status);
  }
}
