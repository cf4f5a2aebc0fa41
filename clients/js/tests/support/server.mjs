/**
 * @file A small server of throng.v1 in this process, and a network that fails, to test clients
 * with.
 *
 * The server keeps everything in memory and forgets nothing unless it is told to. It is a double:
 * it does what docs/protocol.md says and has none of a real server's limits.
 */

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { WebSocketServer } from "ws";

const HOST = "127.0.0.1";

/** One room: what was published to it, and who is in it. */
class ServedRoom {
  epoch = "e1";
  /** Everything that ever was published. */
  log = [];
  members = new Set();
  /** Where in the log what was published with a key is. */
  #keys = new Map();
  /** Where in the log what is held begins, and where the offsets of each epoch began. */
  #held = 0;
  #begins = new Map([["e1", 0]]);

  get offset() {
    return this.log.length - this.#begins.get(this.epoch);
  }

  get position() {
    return { epoch: this.epoch, offset: this.offset };
  }

  /** The offset of the first publication that is held, or would be. */
  get first() {
    return this.#held - this.#begins.get(this.epoch) + 1;
  }

  publish(from, msg, key) {
    this.log.push({ from, at: Date.now(), msg });
    if (key !== undefined) this.#keys.set(key, this.log.length);
  }

  /** Where what was published with a key is; null if nothing was. */
  find(key) {
    const place = this.#keys.get(key);
    if (place === undefined) return null;
    return { epoch: this.epoch, offset: Math.max(0, place - this.#begins.get(this.epoch)) };
  }

  /** What is held after a position, as `joined` and `history` say it. */
  since({ epoch, offset }) {
    const begin = this.#begins.get(epoch);
    const wanted = (begin ?? -Infinity) + offset - this.#begins.get(this.epoch) + 1;
    const recovered = wanted >= this.first && wanted <= this.offset + 1;
    return { recovered, first: recovered ? wanted : this.first };
  }

  last(count) {
    return Math.max(this.first, this.offset - count + 1);
  }

  /** The publications that are held from an offset on. */
  from(offset) {
    const begin = this.#begins.get(this.epoch);
    return this.log
      .slice(begin + offset - 1)
      .map((publication, index) => ({ offset: offset + index, ...publication }));
  }

  /** Forgets all but the last so many. */
  keep(count) {
    this.#held = Math.max(this.#held, this.log.length - count);
  }

  /** As a restart does that keeps what is held: that has the offsets from 1 in a new epoch. */
  renumber() {
    this.epoch = `e${this.#begins.size + 1}`;
    this.#begins.set(this.epoch, this.#held);
  }
}

/** The server. */
export class RoomServer {
  rooms = new Map();
  connections = new Set();
  /** Whether a request of this name is to be put off. */
  refuses = () => false;
  /**
   * With how many publications before those that are asked for a replay begins. That is allowed in
   * the same epoch, where a client can tell.
   */
  overlap = () => 0;
  #sockets;
  #keepaliveMs;
  #count = 0;

  static async start({ keepaliveMs = 25_000, port = 0, subprotocol = true } = {}) {
    const server = new RoomServer();
    server.#keepaliveMs = keepaliveMs;
    server.#sockets = new WebSocketServer({
      host: HOST,
      port,
      handleProtocols: (offered) => subprotocol && offered.has("throng.v1") && "throng.v1",
    });
    server.#sockets.on("connection", (socket) => server.#serve(socket));
    await once(server.#sockets, "listening");
    return server;
  }

  get port() {
    return this.#sockets.address().port;
  }

  get url() {
    return `ws://${HOST}:${this.port}/ws`;
  }

  room(name) {
    if (!this.rooms.has(name)) this.rooms.set(name, new ServedRoom());
    return this.rooms.get(name);
  }

  /** Sends everybody away, with a pause, and begins new epochs. */
  restart(afterMs) {
    for (const connection of this.connections) {
      connection.say("drain", { after_ms: afterMs });
      connection.close(4100, { reason: "drain", after_ms: afterMs });
    }
    for (const room of this.rooms.values()) room.renumber();
  }

  async stop() {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    await once(this.#sockets, "close");
  }

  #serve(socket) {
    this.#count += 1;
    const connection = new ServedConnection(`connection${this.#count}`, socket);
    this.connections.add(connection);
    socket.on("error", () => {});
    socket.on("close", () => {
      this.connections.delete(connection);
      for (const room of this.rooms.values()) room.members.delete(connection);
    });
    socket.on("message", (data) => {
      if (!connection.isClosing) this.#handle(connection, String(data));
    });
    connection.say("hello", {
      server: "double/1",
      connection: connection.name,
      keepalive_ms: this.#keepaliveMs,
      limits: { message_bytes: 65_536, rooms: 128 },
    });
  }

  #handle(connection, text) {
    const space = text.indexOf(" ");
    const event = text.slice(0, space);
    const request = JSON.parse(text.slice(space + 1));
    const { id, room = request.to } = request;
    if (this.refuses(event)) {
      const refusal = { id, event, room, code: "overloaded", message: "busy", retry_after_ms: 200 };
      connection.say("error", refusal);
    } else {
      this[`handle_${event}`](connection, request);
    }
  }

  handle_join(connection, { id, room: name, since, last }) {
    const room = this.room(name);
    const joined = { id, room: name, position: room.position };
    if (room.members.has(connection)) {
      connection.say("joined", { ...joined, already: true });
      return;
    }
    room.members.add(connection);
    const replay = since ? room.since(since) : last ? { first: room.last(last) } : {};
    const isSame = since?.epoch === room.epoch && replay.recovered;
    if (isSame) replay.first = Math.max(room.first, replay.first - this.overlap());
    connection.say("joined", { ...joined, ...replay });
    for (const publication of room.from(replay.first ?? room.offset + 1)) {
      connection.say("msg", { room: name, ...publication });
    }
  }

  handle_leave(connection, { id, room }) {
    this.room(room).members.delete(connection);
    connection.say("left", { id, room });
  }

  handle_msg(connection, { id, to, msg, key }) {
    const room = this.room(to);
    const known = room.find(key);
    if (known === null) {
      room.publish(connection.name, msg, key);
      const [publication] = room.from(room.offset);
      for (const member of room.members) member.say("msg", { room: to, ...publication });
    }
    const answer = known ? { position: known, duplicate: true } : { position: room.position };
    if (id !== undefined) connection.say("ack", { id, room: to, ...answer });
  }

  handle_emit(connection, { id, to, event, data }) {
    for (const member of this.room(to).members) {
      member.say(event, { room: to, from: connection.name, data });
    }
    if (id !== undefined) connection.say("ack", { id, room: to });
  }

  handle_history(connection, { id, room: name, since, last, limit = 100 }) {
    const room = this.rooms.get(name);
    if (!room) {
      connection.say("history", { id, room: name, position: null, publications: [], more: false });
      return;
    }
    const found = since ? room.since(since) : { first: room.last(last) };
    const publications = room.from(found.first).slice(0, since ? limit : last);
    const offset = publications.at(-1)?.offset ?? room.offset;
    connection.say("history", {
      id,
      room: name,
      position: { epoch: room.epoch, offset },
      publications: publications.map((publication) => ({ room: name, ...publication })),
      more: offset < room.offset,
      ...(since ? found : {}),
    });
  }

  handle_ping(connection, { id }) {
    connection.say("pong", { id });
  }
}

/** The server's end of a connection. */
class ServedConnection {
  isClosing = false;

  constructor(name, socket) {
    this.name = name;
    this.socket = socket;
  }

  say(event, data) {
    if (!this.isClosing) this.socket.send(`${event} ${JSON.stringify(data)}`);
  }

  close(code, reason) {
    this.isClosing = true;
    this.socket.close(code, JSON.stringify(reason));
  }
}

/**
 * A relay between clients and a server that fails as networks do: at any byte, in either direction,
 * by an end or by silence. `random` decides, until `heals` was called.
 */
export class BadNetwork {
  #relay;
  #random;
  #sockets = new Set();
  #isBad = true;
  /** How many connections failed. */
  failures = 0;

  static async start(port, random) {
    const network = new BadNetwork();
    network.#random = random;
    network.#relay = createServer((near) => network.#connect(near, port));
    network.#relay.listen(0, HOST);
    await once(network.#relay, "listening");
    return network;
  }

  get url() {
    return `ws://${HOST}:${this.#relay.address().port}/ws`;
  }

  /** Nothing fails from now on, but for what is silent already. */
  heals() {
    this.#isBad = false;
  }

  async stop() {
    for (const socket of this.#sockets) socket.destroy();
    this.#relay.close();
    await once(this.#relay, "close");
  }

  #connect(near, port) {
    const far = connect(port, HOST);
    const ends = [near, far];
    // Small ones fail in the handshake or in the greeting.
    let bytesLeft = Math.floor(this.#random() ** 3 * 200_000);
    const isSilent = this.#random() < 0.05;
    let isDead = false;
    const fail = () => {
      isDead = true;
      this.failures += 1;
      if (!isSilent) for (const end of ends) end.destroy();
    };
    for (const [from, to] of [ends, [far, near]]) {
      this.#sockets.add(from);
      from.on("error", () => {});
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.on("data", (chunk) => {
        if (isDead) return;
        const part = this.#isBad ? chunk.subarray(0, bytesLeft) : chunk;
        bytesLeft -= part.length;
        to.write(part);
        if (part.length < chunk.length) fail();
      });
    }
  }
}

/** Numbers from 0 up to but not including 1, the same for the same seed (mulberry32). */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A clock that goes `factor` times as fast as the real one. */
export function fastClock(factor) {
  return {
    now: () => Date.now() * factor,
    setTimeout: (callback, delayMs) => setTimeout(callback, delayMs / factor),
    clearTimeout: (timer) => clearTimeout(timer),
  };
}
