/**
 * @file A stage without real time and without sockets: a test plays the server and the clock.
 *
 * A test reads as a transcript: what the library said is compared as text (`hears`), and the
 * server's lines are written as they would be on the wire (`says`).
 */

import assert from "node:assert/strict";
import { connect } from "@throng/client";

/** More timers than any test needs at a time. */
const TIMERS_MAX = 1000;

/** A clock that goes only when it is told to. */
export class FakeClock {
  /** How long timers have run. */
  #run = 0;
  /** What a clock on the wall showed when they began. */
  #begin = 1_732_270_000_000;
  #timers = new Set();

  now = () => this.#begin + this.#run;

  setTimeout = (callback, delayMs) => {
    assert.ok(delayMs >= 0 && delayMs < 2 ** 31, `a timer cannot wait ${delayMs} ms`);
    const timer = { at: this.#run + delayMs, callback };
    this.#timers.add(timer);
    return timer;
  };

  clearTimeout = (timer) => this.#timers.delete(timer);

  /** How many timers run. */
  get timers() {
    return this.#timers.size;
  }

  /**
   * Lets time pass; timers run in their order, those that are due at the same time as they were
   * set.
   */
  advance(ms) {
    const end = this.#run + ms;
    for (let count = 0; ; count += 1) {
      assert.ok(count < TIMERS_MAX, "timers that start each other without end");
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#run = due.at;
      due.callback();
    }
    this.#run = end;
  }

  /** Time passes and no timer runs, as while a machine sleeps, or when the clock is set. */
  sleep(ms) {
    this.#begin += ms;
  }
}

/** A socket whose other end is the test. */
class FakeSocket extends EventTarget {
  readyState = 0;
  bufferedAmount = 0;
  protocol = "";
  sent = [];
  /** What the library closed it with; null while it has not. */
  closedWith = null;

  constructor(url, protocols) {
    super();
    this.url = url;
    this.protocols = protocols;
  }

  send(text) {
    assert.equal(this.readyState, 1, "a socket that is not open cannot send");
    this.sent.push(text);
  }

  close(code) {
    this.closedWith = code;
    this.readyState = 2;
  }

  raise(type, fields = {}) {
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

/** A page whose network and visibility the test decides. */
class FakePage {
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { visibilityState: "visible" });

  becomesOnline() {
    this.window.dispatchEvent(new Event("online"));
  }

  becomes(visibilityState) {
    this.document.visibilityState = visibilityState;
    this.document.dispatchEvent(new Event("visibilitychange"));
  }
}

export const LIMITS = {
  message_bytes: 65536,
  rooms: 128,
  room_name_bytes: 255,
  key_bytes: 64,
  history_publications: 1000,
  history_bytes: 262144,
};

/** One connection of the library, and everything around it. */
export class Stage {
  clock = new FakeClock();
  page = new FakePage();
  sockets = [];
  /** What the next random numbers are; 0 when there are no more. */
  chances = [];
  /** Every status, as `state` or `state code reason`. */
  states = [];
  /** Every failure that the connection told of. */
  errors = [];

  constructor(options = {}) {
    const stage = this;
    this.connection = connect("ws://throng.test/ws", {
      WebSocket: class extends FakeSocket {
        constructor(url, protocols) {
          super(url, protocols);
          stage.sockets.push(this);
        }
      },
      clock: this.clock,
      random: () => this.chances.shift() ?? 0,
      page: this.page,
      keyPrefix: "k",
      ...options,
    });
    this.connection.on("state", ({ state, code, reason }) =>
      this.states.push(
        [state, code, reason].filter((part) => part !== null && part !== "").join(" "),
      ),
    );
    this.connection.on("error", (error) => this.errors.push(error));
  }

  /** The socket of the last attempt. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** The server takes the connection and greets. */
  greets(fields = {}) {
    this.accepts();
    const hello = {
      server: "throng/0.1.0",
      connection: "Xk3",
      keepalive_ms: 25000,
      limits: LIMITS,
    };
    this.says(`hello ${JSON.stringify({ ...hello, ...fields })}`);
    return this;
  }

  /** The handshake is over; the server has said nothing. */
  accepts(protocol = "throng.v1") {
    this.socket.readyState = 1;
    this.socket.protocol = protocol;
    this.socket.raise("open");
  }

  /** The server's lines arrive. */
  says(...lines) {
    for (const data of lines) this.socket.raise("message", { data });
    return this;
  }

  /** The library has sent these lines since the last look, and no others. */
  hears(...lines) {
    assert.deepEqual(this.socket.sent.splice(0), lines);
    return this;
  }

  /** The connection ends as seen from the library. */
  ends(code = 1006, reason = "") {
    this.socket.readyState = 3;
    this.socket.raise("close", { code, reason });
    return this;
  }

  /** The connection is lost, and there is another at once: `chances` are zero. */
  comesBack(fields = {}) {
    this.ends();
    this.clock.advance(0);
    return this.greets(fields);
  }

  passes(ms) {
    this.clock.advance(ms);
    return this;
  }
}

/** A connection that is open. */
export function open(options, hello) {
  return new Stage(options).greets(hello);
}

/** What happens in a room, as lines. */
export function diary(room) {
  const lines = [];
  const tell = (line) => lines.push(line);
  room.on("publication", ({ offset, data }) => tell(`${offset} ${JSON.stringify(data)}`));
  room.on("event", ({ event, data }) => tell(`${event} ${JSON.stringify(data)}`));
  room.on("gap", ({ reason, from, to }) => tell(`gap ${reason} ${from}..${to}`));
  room.on("joined", ({ again }) => tell(again ? "joined again" : "joined"));
  room.on("refused", ({ code }) => tell(`refused ${code}`));
  return lines;
}

/** Takes what has been written since the last look. */
export function taken(lines) {
  return lines.splice(0);
}

/**
 * What a promise has become by now: `["pending"]`, `["resolved", value]` or `["rejected", error]`.
 */
export async function outcome(promise) {
  const pending = ["pending"];
  const settled = promise.then(
    (value) => ["resolved", value],
    (error) => ["rejected", error],
  );
  // Promises settle in microtasks only, and all of those come before this.
  const later = new Promise((resolve) => setImmediate(resolve, pending));
  return Promise.race([settled, later]);
}

export async function isPending(promise) {
  assert.deepEqual(await outcome(promise), ["pending"]);
}

/** Returns what it was resolved with. */
export async function resolved(promise) {
  const [what, value] = await outcome(promise);
  assert.equal(what, "resolved", `${what}: ${value}`);
  return value;
}

/** Returns what it was rejected with, which is an instance of `type`. */
export async function rejected(promise, type) {
  const [what, error] = await outcome(promise);
  assert.equal(what, "rejected");
  assert.ok(error instanceof type, `${error?.name}: ${error?.message}`);
  assert.equal(error.name, type.name);
  return error;
}
