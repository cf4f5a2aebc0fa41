/**
 * @file Twenty clients, a server that restarts and a network that fails at any byte: every
 * publication reaches every member once, in the order of the room, and none is left out.
 *
 * The seed decides what fails when, as far as the machine's own timing lets it. A failure names it;
 * `CHAOS_SEED` sets it.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "@throng/client";
import WebSocket from "ws";
import { BadNetwork, RoomServer, fastClock, seeded } from "./support/server.mjs";

const CLIENTS = 20;
const ROOMS = ["tea", "cake", "milk"];
const PUBLICATIONS_PER_CLIENT = 150;
const RESTARTS = 3;
/** How much faster than real time the clients live: their longest pause is 0.75 s. */
const SPEED = 40;
/** Longer than it takes on a loaded machine; a run that takes longer has failed. */
const TIMEOUT_MS = 60_000;

/** A client in two of the three rooms, and what it has seen of them. */
class Guest {
  seen = new Map();
  complaints = [];

  constructor(number, url, random) {
    this.number = number;
    this.rooms = [ROOMS[number % 3], ROOMS[(number + 1) % 3]];
    this.random = random;
    this.connection = connect(url, {
      WebSocket,
      clock: fastClock(SPEED),
      random,
      keyPrefix: `guest${number}`,
      // The server forgets no key, and a loaded machine may take its time.
      publishTimeoutMs: 2 ** 31 - 1,
    });
    this.connection.on("error", (error) => this.complaints.push(String(error)));
    for (const name of this.rooms) this.#enter(this.connection.room(name));
  }

  #enter(room) {
    const seen = [];
    this.seen.set(room.name, seen);
    room.on("publication", ({ data }) => seen.push(data));
    room.on("gap", (gap) => this.complaints.push(JSON.stringify(gap)));
    room.join({ last: 1_000_000 });
  }

  /** Publishes to any room, in bursts; resolves when all is acknowledged. */
  async talk() {
    const counts = new Map();
    for (let said = 0; said < PUBLICATIONS_PER_CLIENT;) {
      const burst = Math.min(1 + Math.floor(this.random() * 8), PUBLICATIONS_PER_CLIENT - said);
      const acks = Array.from({ length: burst }, () => {
        const name = ROOMS[Math.floor(this.random() * 3)];
        const count = (counts.get(name) ?? 0) + 1;
        counts.set(name, count);
        return this.connection.room(name).publish(`${this.number}:${count}`);
      });
      await Promise.all(acks);
      said += burst;
    }
    return counts;
  }

  async hasSeen(name, count) {
    const seen = this.seen.get(name);
    if (seen.length >= count) return;
    await new Promise((resolve) => {
      const off = this.connection.room(name).on("publication", () => {
        if (seen.length < count) return;
        off();
        resolve();
      });
    });
  }
}

async function run(seed, ends) {
  const random = seeded(seed);
  const server = await RoomServer.start({ keepaliveMs: 10_000 });
  ends.push(() => server.stop());
  server.refuses = (event) => (event === "msg" || event === "join") && random() < 0.02;
  server.overlap = () => Math.floor(random() * 3);
  const network = await BadNetwork.start(server.port, random);
  ends.unshift(() => network.stop());
  const guests = Array.from({ length: CLIENTS }, (_, n) => new Guest(n, network.url, random));
  ends.unshift(() => guests.forEach(({ connection }) => connection.close()));

  const restarts = restartsOf(server, guests, RESTARTS);
  const counts = await Promise.all(guests.map((guest) => guest.talk()));
  assert.equal(restarts.left(), 0);
  network.heals();
  for (const name of ROOMS) await check(server.room(name), name, guests, counts);
  assert.ok(network.failures > CLIENTS, `only ${network.failures} connections failed`);
}

/**
 * Restarts the server each time that another part of everything has been published. It forgets what
 * every guest of a room has seen, so that offsets change and nothing is missing.
 */
function restartsOf(server, guests, count) {
  const step = Math.floor((CLIENTS * PUBLICATIONS_PER_CLIENT) / (count + 1));
  let [left, published] = [count, 0];
  const handle = server.handle_msg;
  server.handle_msg = (...request) => {
    handle.apply(server, request);
    published += 1;
    if (published % step !== 0 || left === 0) return;
    left -= 1;
    for (const [name, room] of server.rooms) {
      const members = guests.filter(({ rooms }) => rooms.includes(name));
      const seen = Math.min(...members.map((guest) => guest.seen.get(name).length));
      room.keep(room.log.length - seen);
    }
    server.restart(500);
  };
  return { left: () => left };
}

async function check(room, name, guests, counts) {
  const log = room.log.map(({ msg }) => msg);
  // Everything that was published is there once, each publisher's in the order of its calls.
  for (const guest of guests) {
    const own = log.filter((data) => data.startsWith(`${guest.number}:`));
    const count = counts[guest.number].get(name) ?? 0;
    const said = Array.from({ length: count }, (_, index) => `${guest.number}:${index + 1}`);
    assert.deepEqual(own, said, `what ${guest.number} published to ${name}`);
  }
  for (const guest of guests.filter(({ rooms }) => rooms.includes(name))) {
    await guest.hasSeen(name, log.length);
    assert.deepEqual(guest.seen.get(name), log, `what ${guest.number} has seen of ${name}`);
    assert.deepEqual(guest.complaints, []);
  }
}

test("every publication reaches every member once and in order, whatever fails", async (t) => {
  const seed = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 32));
  const ends = [];
  t.after(async () => {
    for (const end of ends) await end();
  });
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it takes too long")), TIMEOUT_MS);
  });
  try {
    await Promise.race([run(seed, ends), late]);
  } catch (cause) {
    throw new Error(`CHAOS_SEED=${seed}: ${cause.message}`, { cause });
  } finally {
    clearTimeout(timer);
  }
});
