/**
 * @file What an application may choose, the defaults, and what of the surroundings may be absent.
 *
 * Globals of browsers and of Node are read here and nowhere else, so that tests can put time,
 * chance and sockets in their place.
 */

/** Time, as the library uses it. The default is `Date.now` and the global timers. */
export interface Clock {
  /** Milliseconds since 1970. It should go on while the machine sleeps. */
  now(): number;
  setTimeout(callback: () => void, delayMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** What the library uses of a WebSocket. Browsers', Node's and npm `ws`'s all have it. */
export interface WebSocketLike {
  readonly readyState: number;
  readonly bufferedAmount: number;
  readonly protocol: string;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  /** npm `ws` has it: ends a dead connection at once, where `close` waits for the peer. */
  terminate?(): void;
  addEventListener(
    type: "open" | "message" | "close" | "error",
    // Each of them has types of its own for what it raises.
    listener: (event: any) => void,
  ): void;
}

/** A class of WebSockets, such as the global one, or npm `ws`'s. */
export type WebSocketConstructor = new (url: string, protocols: string) => WebSocketLike;

/** What raises events: of `EventTarget`, the part that is used. */
export interface Listenable {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}

/** What tells that the network or the person is back. */
export interface Page {
  /** Raises `online`. */
  readonly window?: Listenable | null;
  /** Raises `visibilitychange`. */
  readonly document?: (Listenable & { readonly visibilityState: string }) | null;
}

/** What {@link connect} may be told. Everything has a default. */
export interface ConnectOptions {
  /** The class of the socket; needed where there is no global one: Node 20, with npm `ws`. */
  WebSocket?: WebSocketConstructor;
  /**
   * How long a publication may wait for its acknowledgement, in milliseconds from when it was first
   * sent (default 150,000). After that its promise rejects with {@link UnknownOutcomeError}, since
   * a server forgets a key five minutes after it first saw it, and a repeat would then be delivered
   * again. Half of that, because what was sent last may be long under way. Set it to half of the
   * server's window if its operator set another.
   */
  publishTimeoutMs?: number;
  /** The most publications that wait for their acknowledgement (default 1000). */
  publishesMax?: number;
  /** The most bytes of data of such publications, as JSON (default 1,048,576). */
  publishBytesMax?: number;
  /**
   * The most publications of one room that are under way at once (default 1).
   *
   * With 1, a room gets publications in the order of the calls, whatever happens. More is faster
   * where the server is far: with 1, a room takes one publication for each round trip. Then a
   * publication that an overloaded server put off comes after those that were under way with it.
   */
  publishesInFlightMax?: number;
  /** How long an attempt to connect may take, up to the server's greeting (default 15,000 ms). */
  connectTimeoutMs?: number;
  /**
   * What the keys of publications begin with: up to 48 bytes that no other client uses. The default
   * is random.
   */
  keyPrefix?: string;
  /** Time, for tests. */
  clock?: Clock;
  /** Chance, for tests: a number from 0 up to but not including 1. It spreads the pauses. */
  random?: () => number;
  /** Where `online` and `visibilitychange` come from, for tests; null is from nowhere. */
  page?: Page | null;
}

/** The options, complete. @internal */
export type Settings = Required<ConnectOptions> & { readonly page: Page };

/**
 * Fills in the defaults.
 *
 * @throws {TypeError} If there is no WebSocket.
 * @throws {RangeError} If a number cannot be used.
 *
 * @internal
 */
export function settle(options: ConnectOptions): Settings {
  const WebSocket = options.WebSocket ?? (globalThis.WebSocket as WebSocketConstructor | undefined);
  if (!WebSocket) throw new TypeError("there is no WebSocket here: give one as options.WebSocket");
  const keyPrefix = options.keyPrefix ?? randomPrefix();
  if (keyPrefix === "" || keyPrefix.length > KEY_PREFIX_MAX) {
    throw new RangeError(`keyPrefix: 1 to ${KEY_PREFIX_MAX} characters, not ${keyPrefix.length}`);
  }
  return {
    WebSocket,
    publishTimeoutMs: positive("publishTimeoutMs", options.publishTimeoutMs ?? 150_000),
    publishesMax: positive("publishesMax", options.publishesMax ?? 1000),
    publishBytesMax: positive("publishBytesMax", options.publishBytesMax ?? 1 << 20),
    publishesInFlightMax: positive("publishesInFlightMax", options.publishesInFlightMax ?? 1),
    connectTimeoutMs: positive("connectTimeoutMs", options.connectTimeoutMs ?? 15_000),
    keyPrefix,
    clock: options.clock ?? SYSTEM_CLOCK,
    random: options.random ?? Math.random,
    page: options.page === undefined ? thisPage() : (options.page ?? {}),
  };
}

/**
 * The address of a WebSocket as an absolute one. A relative one is relative to the page, whose
 * scheme then says whether it is `ws` or `wss`.
 *
 * @throws {TypeError} If it is none.
 *
 * @internal
 */
export function resolveUrl(url: string | URL): string {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  const resolved = new URL(url, base);
  resolved.protocol = resolved.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`no address of a WebSocket: ${url}`);
  resolved.hash = "";
  return resolved.href;
}

/** Tells whoever looks after this page or process that a callback has thrown. @internal */
export function report(error: unknown): void {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else
    queueMicrotask(() => {
      throw error;
    });
}

/** @throws {RangeError} If it is not above zero, or too much for a timer. @internal */
export function positive(name: string, value: number): number {
  if (typeof value === "number" && value > 0 && value <= TIMER_MAX_MS) return value;
  throw new RangeError(`${name}: more than 0 and at most ${TIMER_MAX_MS}, not ${value}`);
}

function randomPrefix(): string {
  // 96 bits: nobody meets another's by chance, and nobody guesses it to publish in its place.
  const words = crypto.getRandomValues(new Uint32Array(3));
  return Array.from(words, (word) => word.toString(36)).join("");
}

function thisPage(): Page {
  return {
    window: typeof globalThis.addEventListener === "function" ? globalThis : null,
    document: globalThis.document ?? null,
  };
}

const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
  clearTimeout: (timer) => clearTimeout(timer as number),
};

/** What a timer can wait: longer delays would run out at once. @internal */
export const TIMER_MAX_MS = 2 ** 31 - 1;

/** A key is at most 64 bytes, and the rest is a hyphen and a counter. */
const KEY_PREFIX_MAX = 48;
