/**
 * @file A client on npm's `ws`, which shares nothing with the server. It speaks golem's wire, or what it is
 * given a codec for.
 */

import assert from "node:assert/strict";
import WebSocket from "ws";
import { within } from "./server.mjs";

/** golem's wire. */
const JSON_EVENTS = {
  encode: (event, data) => `${event} ${JSON.stringify(data)}`,
  decode(message, isBinary) {
    assert.equal(isBinary, false, "golem's wire has text frames only");
    const text = String(message);
    const space = text.indexOf(" ");
    return [text.slice(0, space), JSON.parse(text.slice(space + 1))];
  },
};

/** One client: what it is told arrives in order and is taken with `next`. */
export class Client {
  static #count = 0;
  #events = [];
  #waiting = [];

  /**
   * @param {Server} server
   * @param {object} [options] Subprotocols to ask for, headers of the request, and how an event is a message.
   * @returns {Promise<Client>}
   */
  static async connect(server, { protocols = [], headers = {}, codec = JSON_EVENTS } = {}) {
    const client = new Client();
    client.codec = codec;
    client.number = Client.#count += 1;
    client.socket = new WebSocket(server.wsUrl, protocols, { headers });
    client.closed = new Promise((resolve) =>
      client.socket.on("close", (code, reason) => resolve({ code, reason: String(reason) })),
    );
    client.socket.on("message", (data, isBinary) => client.#handle(data, isBinary));
    await within(
      "the handshake",
      new Promise((resolve, reject) => client.socket.once("open", resolve).once("error", reject)),
    );
    // From here on a lost connection is a `close`, which tests look at.
    client.socket.on("error", () => {});
    return client;
  }

  emit(event, data) {
    this.socket.send(this.codec.encode(event, data));
  }

  say(room, msg) {
    this.emit("msg", { to: room, msg });
  }

  /** Joins, and returns when the server has seen it: golem's wire has no answer to a join. */
  async join(room) {
    this.emit("join", { name: room });
    await this.settle();
  }

  async leave(room) {
    this.emit("leave", { name: room });
    await this.settle();
  }

  /**
   * Returns when the server has seen everything sent so far: it reads in order, so it is enough to
   * hear oneself in a room of one's own. Anything else heard before that is a failure.
   */
  async settle() {
    const room = `settle-${this.number}`;
    this.emit("join", { name: room });
    this.say(room, room);
    this.emit("leave", { name: room });
    await this.hears(room);
  }

  /** The next event, whatever it is: `[name, data]`. */
  next() {
    if (this.#events.length > 0) return Promise.resolve(this.#events.shift());
    const event = new Promise((resolve) => this.#waiting.push(resolve));
    const end = this.closed.then(({ code, reason }) => {
      throw new Error(`closed with ${code} "${reason}" instead of an event`);
    });
    return within("an event", Promise.race([event, end]));
  }

  /** The data of the next event, which must be a `msg`. */
  async message() {
    const [event, data] = await this.next();
    assert.equal(event, "msg", `told ${event} ${JSON.stringify(data)} instead of a msg`);
    return data;
  }

  async messages(count) {
    const found = [];
    while (found.length < count) found.push(await this.message());
    return found;
  }

  async hears(msg) {
    assert.deepEqual(await this.message(), msg);
  }

  /** The next event must be an `error` that a person can read. */
  async isToldError() {
    const [event, error] = await this.next();
    assert.equal(event, "error", `told ${event} ${JSON.stringify(error)} instead of an error`);
    assert.equal(typeof error.code, "string");
    assert.match(error.message, /\S/);
    return error;
  }

  async isClosed() {
    return within("the connection to be closed", this.closed);
  }

  async end() {
    this.socket.close();
    await this.isClosed();
  }

  #handle(message, isBinary) {
    const event = this.codec.decode(message, isBinary);
    const waiting = this.#waiting.shift();
    if (waiting) waiting(event);
    else this.#events.push(event);
  }
}
