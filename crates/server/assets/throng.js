/**
 * @file The browser's end of a Throng connection: golem's wire over one WebSocket that comes back.
 *
 * The wire is text frames `event json`: the event's name, one space, JSON. A page answers events
 * with {@link Connection#on} and sends its own with {@link Connection#emit}; pages written for
 * golem's own client do the same with the same two calls.
 *
 * What this module owns:
 *
 * - *Coming back.* A lost connection is opened again after a pause with full jitter, or after the
 *   pause that the server asked for; a server that says "do not come back" is obeyed.
 * - *Rooms.* They are state, not messages: {@link Connection#join} remembers the room, and every
 *   new connection joins the remembered rooms before anything else is sent.
 *
 * What it refuses to do: queue messages. Text that is sent minutes later, into another
 * conversation, is worse than text that stays in its box; so `emit` says at once whether the
 * message went to the socket.
 *
 * A script that is not a module loads it with
 * `import("/throng.js").then(({ Connection }) => { ... })`.
 *
 * @example
 * import { Connection } from "/throng.js";
 *
 * const connection = new Connection();
 * connection.on("msg", (msg) => console.log(msg));
 * connection.on("open", () => connection.emit("msg", { to: "lobby", msg: "hello" }));
 * connection.join("lobby");
 */

/** First ceiling of the pause before a new attempt; doubles with every failure. */
const BACKOFF_MIN_MS = 500;
/** Last ceiling of that pause. Half of it on average: a person does not give up within 15 s. */
const BACKOFF_MAX_MS = 30_000;
/** A server's `after_ms` counts up to here, so that a wrong figure does not mean "for ever". */
const AFTER_MAX_MS = 300_000;
/** A connection that lived this long was a good one: the next failure starts from the beginning. */
const STABLE_MS = 10_000;
/** An attempt that has not answered by now is given up; browsers themselves take minutes. */
const CONNECT_TIMEOUT_MS = 15_000;
/** `emit` refuses above this many bytes that the socket has not taken yet. */
const BUFFERED_BYTES_MAX = 1 << 20;

/** Events of the connection itself. A frame from the network cannot raise them. */
const OWN_EVENTS = new Set(["open", "close", "state"]);

/**
 * Standard codes after which the same client would only meet the same end (RFC 6455, section 7.4.1):
 * finished, or the server rejects how we speak. 1009 is not among them: one message was too large.
 */
const FINAL_CODES = new Set([1000, 1002, 1003, 1007, 1008, 1010]);

/**
 * What a connection is doing.
 *
 * `connecting`: an attempt is under way. `open`: frames flow. `waiting`: the next attempt is at
 * `retryAt`. `closed`: it will not come back by itself.
 *
 * @typedef {"connecting" | "open" | "waiting" | "closed"} State
 */

/**
 * The argument of the `state` event.
 *
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number | null} retryAt When the next attempt starts, in milliseconds as `Date.now()`
 *   counts them; null unless the state is `waiting`.
 * @property {number | null} code The close code of the connection before, null if there was none.
 * @property {string} reason Why it was closed, as the server put it; empty if it did not say.
 */

/**
 * A connection that comes back, and the rooms it is in.
 *
 * It starts to connect when it is made. Set the callbacks in the same turn and none is missed.
 */
export class Connection {
  /** @type {string} */
  #url;
  /** @type {WebSocket | null} The socket whose events count; one that was given up has none. */
  #socket = null;
  /** @type {Map<string, Set<Function>>} */
  #callbacks = new Map();
  /** @type {Set<string>} */
  #rooms = new Set();
  /** @type {StateChange} */
  #change = { state: "closed", retryAt: null, code: null, reason: "" };
  #failures = 0;
  #openedAt = 0;
  /** @type {number | undefined} Runs out when an attempt takes too long, or when one is due. */
  #timer;

  /**
   * @param {string} [address] Where the server's WebSocket is: absolute (`wss://host/ws`), or
   *   relative to the page, whose scheme then says whether it is `ws` or `wss`.
   */
  constructor(address = "ws") {
    const url = new URL(address, document.baseURI);
    url.protocol = url.protocol.replace(/^http/, "ws");
    url.hash = "";
    this.#url = url.href;
    // The network is back: no reason to sit out the pause.
    addEventListener("online", () => this.state === "waiting" && this.reconnect());
    this.#connect();
  }

  /** What the connection is doing now. @returns {State} */
  get state() {
    return this.#change.state;
  }

  /** The rooms that every new connection joins. @returns {string[]} */
  get rooms() {
    return [...this.#rooms];
  }

  /**
   * Calls `callback` with the data of each `event` from the server.
   *
   * Three events are the connection's own: `open` (no argument), `close` (the `CloseEvent`) and
   * `state` (a {@link StateChange}). An event may have several callbacks; they are called in the
   * order they were given. One that throws is reported to the console, and neither the other
   * callbacks nor the connection notice.
   *
   * @param {string} event
   * @param {(data: any) => void} callback
   * @returns {() => void} Takes the callback away again.
   */
  on(event, callback) {
    let callbacks = this.#callbacks.get(event);
    if (!callbacks) this.#callbacks.set(event, (callbacks = new Set()));
    callbacks.add(callback);
    return () => callbacks.delete(callback);
  }

  /**
   * Sends an event, now or not at all.
   *
   * @param {string} event The event's name: not empty, without a space.
   * @param {any} [data] What JSON can say; nothing is sent as `null`.
   * @returns {boolean} True if the socket took it, which is not yet a receipt. False, and nothing
   *   will be sent, if the connection is not open or if more than 1 MiB still waits in the socket.
   * @throws {TypeError} If the name cannot be sent, or JSON cannot say `data`.
   */
  emit(event, data = null) {
    if (event === "" || /\s/.test(event)) throw new TypeError(`no event's name: "${event}"`);
    const json = JSON.stringify(data);
    if (json === undefined) throw new TypeError(`JSON cannot say the data of "${event}"`);
    const socket = this.#socket;
    if (this.state !== "open" || socket?.readyState !== WebSocket.OPEN) return false;
    if (socket.bufferedAmount > BUFFERED_BYTES_MAX) return false;
    socket.send(`${event} ${json}`);
    return true;
  }

  /**
   * Joins a room, now and again on every new connection, until {@link Connection#leave}.
   *
   * @param {string} room
   */
  join(room) {
    this.#rooms.add(room);
    this.emit("join", { name: room });
  }

  /**
   * Leaves a room. Messages that are already under way may still arrive.
   *
   * @param {string} room
   */
  leave(room) {
    if (this.forget(room)) this.emit("leave", { name: room });
  }

  /**
   * Stops joining a room on new connections and says nothing to the server: for a room that the
   * server refused.
   *
   * @param {string} room
   * @returns {boolean} Whether the room was remembered.
   */
  forget(room) {
    return this.#rooms.delete(room);
  }

  /** Connects at once, instead of waiting or of staying closed. Does nothing while connected. */
  reconnect() {
    if (this.state === "waiting" || this.state === "closed") this.#connect();
  }

  /** Closes for good: it does not come back unless {@link Connection#reconnect} is called. */
  close() {
    clearTimeout(this.#timer);
    this.#abandon();
    this.#become("closed");
  }

  #connect() {
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    // A socket that was given up may still raise events: only the current one is listened to.
    const listen = (event, handle) =>
      socket.addEventListener(event, (detail) => this.#socket === socket && handle(detail));
    listen("open", () => this.#handleOpen());
    listen("message", ({ data }) => this.#handleFrame(data));
    listen("close", (event) => this.#handleClose(event));
    this.#timer = setTimeout(() => {
      this.#abandon();
      this.#retry(1006, "");
    }, CONNECT_TIMEOUT_MS);
    this.#become("connecting");
  }

  #abandon() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  #handleOpen() {
    clearTimeout(this.#timer);
    this.#openedAt = Date.now();
    this.#change = { state: "open", retryAt: null, code: null, reason: "" };
    for (const room of this.#rooms) this.emit("join", { name: room });
    this.#raise("state", { ...this.#change });
    this.#raise("open");
  }

  #handleFrame(data) {
    // golem's wire has text frames only.
    if (typeof data !== "string") return;
    const space = data.indexOf(" ");
    const event = space < 0 ? data : data.slice(0, space);
    if (OWN_EVENTS.has(event) || !this.#callbacks.has(event)) return;
    let value;
    try {
      value = JSON.parse(data.slice(event.length + 1));
    } catch (cause) {
      reportError(new Error(`"${event}" from the server carries no JSON`, { cause }));
      return;
    }
    this.#raise(event, value);
  }

  #handleClose(event) {
    clearTimeout(this.#timer);
    this.#socket = null;
    const { reason, afterMs } = parseReason(event.reason);
    if (comesBack(event.code)) this.#retry(event.code, reason, afterMs);
    else this.#become("closed", { code: event.code, reason });
    this.#raise("close", event);
  }

  /**
   * Waits before the next attempt. The server's pause is a minimum and the jitter comes on top:
   * everybody who was sent away together must not come back together.
   */
  #retry(code, reason, afterMs = 0) {
    if (this.#openedAt && Date.now() - this.#openedAt >= STABLE_MS) this.#failures = 0;
    this.#openedAt = 0;
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** this.#failures);
    this.#failures += 1;
    const delay = Math.min(afterMs, AFTER_MAX_MS) + Math.random() * ceiling;
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#become("waiting", { code, reason, retryAt: Date.now() + delay });
  }

  #become(state, { code = this.#change.code, reason = this.#change.reason, retryAt = null } = {}) {
    this.#change = { state, retryAt, code, reason };
    this.#raise("state", { ...this.#change });
  }

  #raise(event, data) {
    for (const callback of [...(this.#callbacks.get(event) ?? [])]) {
      try {
        callback(data);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/**
 * Whether a client should come back after this close code.
 *
 * @param {number} code
 * @returns {boolean}
 */
export function comesBack(code) {
  return !FINAL_CODES.has(code) && !(code >= 4000 && code <= 4099);
}

/** Reads `{"reason":"slow_consumer","after_ms":1500}`; any other text is the reason itself. */
function parseReason(text) {
  try {
    const { reason, after_ms: afterMs } = JSON.parse(text);
    return {
      reason: typeof reason === "string" ? reason : "",
      afterMs: Number.isFinite(afterMs) && afterMs > 0 ? afterMs : 0,
    };
  } catch {
    return { reason: text, afterMs: 0 };
  }
}
