/**
 * @file The JavaScript client, as it is built and served, in Node against the real server: what
 * clients/js/README.md promises of publications, over networks that are cut and servers that go.
 *
 * The library's own tests hold it against a server that they make up; these hold the two together.
 */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterEach, describe, test } from "node:test";
import WebSocket from "ws";
import {
  ClosedError,
  RefusedError,
  UnknownOutcomeError,
  connect,
} from "../../../../clients/js/dist/throng.js";
import { Client } from "./client.mjs";
import { Gateway } from "./gateway.mjs";
import { Network } from "./network.mjs";
import { Server, within } from "./server.mjs";

/** Of every pause between two attempts, this part is waited: 1 ms of the first, 60 of the last. */
const HURRY = 0.002;
/** More than the kernel takes from a server whose client does not read. */
const FLOOD_BYTES = 16 << 20;
const FLOOD_MESSAGE_BYTES = 60_000;
const FLOOD_MESSAGES = Math.ceil(FLOOD_BYTES / FLOOD_MESSAGE_BYTES);
/** What a server needs to hold all of that. */
const ROOMY = {
  THRONG_HISTORY_BYTES: String(2 * FLOOD_BYTES),
  THRONG_MAX_MAILBOX_BYTES: String(4 * FLOOD_BYTES),
};

/** How a server with histories on disk may end, and whether it then knows that nothing is missing. */
const ENDS = [
  { end: "stopped", fsync: "interval", isKilled: false, isKnown: true },
  { end: "killed, having written first", fsync: "always", isKilled: true, isKnown: true },
  { end: "killed, writing behind", fsync: "interval", isKilled: true, isKnown: false },
];

/** A connection of the library, one of its rooms, and all that it told of both, in order. */
class Member {
  publications = [];
  gaps = [];
  joined = [];
  events = [];
  states = [];
  errors = [];
  #waiting = new Set();

  /** @param {string} url @param {string} room */
  constructor(url, room) {
    this.connection = connect(url, { WebSocket, random: () => HURRY });
    this.room = this.connection.room(room);
    for (const [of, event, heard] of [
      [this.room, "publication", this.publications],
      [this.room, "gap", this.gaps],
      [this.room, "joined", this.joined],
      [this.room, "event", this.events],
      [this.connection, "state", this.states],
      [this.connection, "error", this.errors],
    ]) {
      of.on(event, (detail) => {
        heard.push(detail);
        for (const look of this.#waiting) look();
      });
    }
  }

  get data() {
    return this.publications.map(({ data }) => data);
  }

  /** Waits until something that it was told makes this true. */
  async until(what, isSo) {
    let look;
    const found = new Promise((resolve) => {
      look = () => isSo() && resolve();
      this.#waiting.add(look);
      look();
    });
    await within(what, found).finally(() => this.#waiting.delete(look));
  }

  async hears(data) {
    await this.until(`the publication ${data}`, () => this.data.includes(data));
  }

  async isIn(state) {
    await this.until(`the state ${state}`, () => this.connection.state === state);
  }

  /** The end of the connection before this state. */
  lastEnd() {
    return this.states.findLast(({ code }) => code !== null);
  }
}

describe("the library against the server", () => {
  /** @type {Server} */
  let server;
  /** What ends with the test, the last first. */
  let closings = [];
  /** @type {string | null} */
  let folder = null;

  afterEach(async () => {
    for (const close of closings.reverse()) await close();
    closings = [];
    await server.reaches({ throng_connections: 0, throng_members: 0 });
    await server.stop();
    if (folder !== null) rmSync(folder, { recursive: true });
    folder = null;
  });

  async function begin(env) {
    server = await Server.start(env);
  }

  /** The server ends, and another one begins in its place. */
  async function restart({ env, isKilled = false, meanwhile = () => {} } = {}) {
    const { address } = server;
    await (isKilled ? server.kill() : server.stop());
    await meanwhile();
    server = await Server.start({ THRONG_LISTEN: address, ...env });
  }

  /** Settings of a server that has its histories on a disk, which goes with the test. */
  function onDisk() {
    folder = mkdtempSync(joinPath(tmpdir(), "throng-library-"));
    return { THRONG_HISTORY_PATH: folder, THRONG_HISTORY_ON_FAILURE: "refuse" };
  }

  function visit({ wsUrl } = server, room = "tea") {
    const member = new Member(wsUrl, room);
    closings.push(() => member.connection.close());
    return member;
  }

  async function member(way, options, room) {
    const found = visit(way, room);
    await within("the membership", found.room.join(options));
    return found;
  }

  async function network() {
    const found = await Network.to(server);
    closings.push(() => found.stop());
    return found;
  }

  async function golemClient() {
    const found = await Client.connect(server);
    closings.push(() => found.end());
    return found;
  }

  /** A golem client publishes the numbers, and returns when the server has them. */
  async function publish(golem, from, to, data = (number) => number) {
    for (let number = from; number <= to; number += 1) golem.say("tea", data(number));
    await golem.settle();
  }

  test("who joins has the last publications and then what is said, in order", async () => {
    await begin();
    const golem = await golemClient();
    await publish(golem, 1, 10);
    const ada = await member(server, { last: 3 });
    assert.equal(ada.joined[0].first, 8);
    assert.equal(ada.joined[0].again, false);
    await publish(golem, 11, 12);
    await ada.hears(12);
    assert.deepEqual(ada.data, [8, 9, 10, 11, 12]);
    assert.deepEqual(ada.publications.map(({ offset }) => offset), [8, 9, 10, 11, 12]);
    assert.deepEqual(ada.room.position, { epoch: ada.joined[0].position.epoch, offset: 12 });
    assert.deepEqual(ada.gaps, []);
  });

  test("both wires are in one room, and a publisher has its own before the answer", async () => {
    await begin();
    const golem = await golemClient();
    await golem.join("tea");
    const ada = await member(server);
    let wasHeard;
    const ack = await ada.room.publish({ text: "hi" }).then((answer) => {
      wasHeard = ada.publications.length === 1;
      return answer;
    });
    assert.equal(wasHeard, true);
    assert.deepEqual(ack.position, { epoch: ada.room.position.epoch, offset: 1 });
    assert.equal(ack.duplicate, false);
    assert.equal(ada.publications[0].from, ada.connection.hello.connection);
    await golem.hears({ text: "hi" });
    assert.equal(ada.room.emit("typing", { name: "Ada" }), true);
    assert.deepEqual(await golem.next(), ["typing", { name: "Ada" }]);
    await ada.until("the event", () => ada.events.length === 1);
    const { event, data, from } = ada.events[0];
    assert.deepEqual({ event, data }, { event: "typing", data: { name: "Ada" } });
    assert.equal(from, ada.connection.hello.connection);
  });

  test("who was away has what was missed, each once, and no gap", async () => {
    await begin();
    const way = await network();
    const ada = await member(way);
    const golem = await golemClient();
    await publish(golem, 1, 3);
    await ada.hears(3);
    for (const round of [1, 2, 3]) {
      way.cut();
      await ada.isIn("waiting");
      await publish(golem, 10 * round, 10 * round + 9);
      way.heal();
      await ada.hears(10 * round + 9);
    }
    assert.deepEqual(ada.data, [1, 2, 3, ...numbers(10, 39)]);
    assert.deepEqual(ada.publications.map(({ offset }) => offset), numbers(1, 33));
    assert.equal(ada.joined.length, 4);
    for (const { again, recovered } of ada.joined.slice(1)) {
      assert.deepEqual({ again, recovered }, { again: true, recovered: true });
    }
    assert.deepEqual(ada.gaps, []);
    assert.deepEqual(ada.errors, []);
  });

  test("what is published while away arrives once, in order, and is acknowledged", async () => {
    await begin();
    const way = await network();
    const [ada, ben] = [await member(way), await member()];
    way.cut();
    await ada.isIn("waiting");
    const acks = numbers(1, 20).map((number) => ada.room.publish(number));
    assert.equal(ada.connection.unacknowledged, 20);
    await ben.room.publish("meanwhile");
    way.heal();
    const offsets = (await within("the answers", Promise.all(acks))).map(
      ({ position, duplicate }) => [position.offset, duplicate],
    );
    assert.deepEqual(offsets, numbers(2, 21).map((offset) => [offset, false]));
    for (const person of [ada, ben]) {
      await person.hears(20);
      assert.deepEqual(person.data, ["meanwhile", ...numbers(1, 20)]);
    }
    assert.equal(ada.connection.unacknowledged, 0);
  });

  test("a publication whose answer was lost is sent again and delivered once", async () => {
    await begin();
    const way = await network();
    const [ada, ben] = [await member(way), await member()];
    way.hold();
    const ack = ada.room.publish("once");
    await ben.hears("once");
    way.cut();
    await ada.isIn("waiting");
    way.heal();
    const { duplicate, position } = await within("the answer", ack);
    assert.equal(duplicate, true);
    assert.equal(position.offset, 1);
    await ben.room.publish("the next");
    for (const person of [ada, ben]) {
      await person.hears("the next");
      assert.deepEqual(person.data, ["once", "the next"]);
    }
  });

  test("nothing is lost or repeated over connections that end at any byte", async () => {
    await begin();
    const way = await network();
    const [ada, ben] = [await member(way), await member()];
    const chance = seeded(1);
    // More than a greeting takes, so that each connection brings something.
    way.cut();
    await ada.isIn("waiting");
    way.heal();
    way.breaksAfter = () => 600 + Math.floor(chance() * 3000);
    const acks = numbers(1, 200).map((number) => ada.room.publish(number));
    await within("the answers", Promise.all(acks));
    for (const person of [ada, ben]) {
      await person.hears(200);
      assert.deepEqual(person.data, numbers(1, 200));
      assert.deepEqual(person.gaps, []);
    }
    assert.ok(way.breaks >= 10, `only ${way.breaks} connections ended`);
  });

  test("a history is read in parts, from anywhere, without joining", async () => {
    await begin();
    const ada = visit();
    assert.equal((await ada.room.history({ last: 5 })).position, null);
    const golem = await golemClient();
    await publish(golem, 1, 25);
    const end = await ada.room.history({ last: 1 });
    assert.deepEqual(end.publications.map(({ data }) => data), [25]);
    assert.equal(end.more, false);
    const [{ epoch }, read] = [end.position, []];
    for (let since = { epoch, offset: 3 }, more = true; more;) {
      const part = await ada.room.history({ since, limit: 10 });
      assert.equal(part.recovered, true);
      read.push(part.publications.map(({ data }) => data));
      ({ position: since, more } = part);
    }
    assert.deepEqual(read, [numbers(4, 13), numbers(14, 23), [24, 25]]);
    assert.deepEqual(ada.connection.rooms, []);
    await server.reaches({ throng_members: 0 });
  });

  test("what the server has dropped meanwhile is told to the number", async () => {
    await begin({ THRONG_HISTORY_PUBLICATIONS: "5" });
    const way = await network();
    const ada = await member(way);
    const golem = await golemClient();
    await publish(golem, 1, 2);
    await ada.hears(2);
    way.cut();
    await ada.isIn("waiting");
    await publish(golem, 3, 14);
    way.heal();
    await ada.hears(14);
    assert.deepEqual(ada.data, [1, 2, ...numbers(10, 14)]);
    assert.equal(ada.joined[1].recovered, false);
    const { epoch } = ada.room.position;
    const gap = { room: "tea", reason: "evicted", epoch, from: 3, to: 9 };
    assert.deepEqual(ada.gaps, [gap]);
    assert.deepEqual(ada.publications.map((publication) => publication.gap), [
      null,
      null,
      gap,
      ...Array(4).fill(null),
    ]);
  });

  /** Publishes more than the kernel takes, while `way` carries nothing to its client. */
  async function flood(way, isEnough) {
    const golem = await golemClient();
    way.hold();
    const rest = "x".repeat(FLOOD_MESSAGE_BYTES);
    await publish(golem, 1, FLOOD_MESSAGES, (number) => ({ number, rest }));
    await server.reachesAtLeast(isEnough);
    way.heal();
  }

  test("what a slow member was not sent is told to the number, and history has it", async () => {
    const rooms = `[{ match = "tea", slow_consumer = "latest" }]`;
    await begin({ ...ROOMY, THRONG_ROOMS: rooms });
    const way = await network();
    const ada = await member(way);
    await flood(way, { throng_skipped_total: 10 });
    await ada.until("the last", () => ada.data.at(-1)?.number === FLOOD_MESSAGES);
    const found = new Map(ada.publications.map(({ offset, data }) => [offset, data.number]));
    assert.ok(ada.gaps.length > 0);
    for (const { reason, epoch, from, to } of ada.gaps) {
      assert.equal(reason, "slow");
      for (let since = { epoch, offset: from - 1 }; since.offset < to;) {
        const { publications, position } = await ada.room.history({
          since,
          limit: to - since.offset,
        });
        for (const { offset, data } of publications) {
          assert.equal(found.has(offset), false, `${offset} came, and was told to be missing`);
          found.set(offset, data.number);
        }
        since = position;
      }
    }
    const all = numbers(1, FLOOD_MESSAGES);
    assert.deepEqual(all.map((offset) => found.get(offset)), all);
    assert.equal(ada.joined.length, 1);
  });

  test("who is closed for being slow comes back and has everything", async () => {
    await begin({ ...ROOMY, THRONG_MAX_OUTBOX_BYTES: "65536" });
    const way = await network();
    const ada = await member(way);
    await flood(way, { throng_slow_consumers_total: 1 });
    await ada.until("the last", () => ada.data.at(-1)?.number === FLOOD_MESSAGES);
    assert.deepEqual(ada.data.map(({ number }) => number), numbers(1, FLOOD_MESSAGES));
    const { code, reason } = ada.lastEnd();
    assert.deepEqual({ code, reason }, { code: 4102, reason: "slow_consumer" });
    assert.deepEqual(ada.gaps, []);
  });

  test("a server that stops is come back to when it says; what it forgot is told", async () => {
    await begin({ THRONG_DRAIN_SPREAD_S: "1" });
    const [ada, ben] = [await member(), await member()];
    await ada.room.publish("before");
    await ben.hears("before");
    const { epoch } = ada.room.position;
    let ack;
    await restart({
      meanwhile: async () => {
        for (const person of [ada, ben]) {
          await person.until("the end", () => person.lastEnd() !== undefined);
          const { state, code, reason, retryAt } = person.states.find(({ code }) => code !== null);
          assert.deepEqual([state, code, reason], ["waiting", 4100, "drain"]);
          assert.ok(retryAt !== null);
        }
        ack = ada.room.publish("while it is away");
      },
    });
    await within("the answer", ack);
    for (const person of [ada, ben]) {
      await person.hears("while it is away");
      assert.deepEqual(person.data, ["before", "while it is away"]);
      assert.notEqual(person.room.position.epoch, epoch);
      assert.deepEqual(
        person.gaps.map(({ reason, from, to }) => ({ reason, from, to })),
        [{ reason: "epoch", from: null, to: null }],
      );
    }
  });

  for (const { end, fsync, isKilled, isKnown } of ENDS) {
    test(`histories on disk are gone on from after a server that is ${end}`, async () => {
      const env = { ...onDisk(), THRONG_HISTORY_FSYNC: fsync, THRONG_DRAIN_SPREAD_S: "1" };
      await begin(env);
      const [ada, ben] = [await member(), await member()];
      await ada.room.publish("before");
      await ben.hears("before");
      let ack;
      await restart({
        env,
        isKilled,
        meanwhile: async () => {
          for (const person of [ada, ben]) {
            await person.until("the end", () => person.lastEnd() !== undefined);
          }
          ack = ada.room.publish("while it is away");
        },
      });
      assert.equal((await within("the answer", ack)).duplicate, false);
      for (const person of [ada, ben]) {
        await person.hears("while it is away");
        assert.deepEqual(person.data, ["before", "while it is away"]);
        assert.deepEqual(person.gaps.map(({ reason }) => reason), isKnown ? [] : ["epoch"]);
        assert.equal(person.joined.at(-1).recovered, isKnown);
      }
      if (!isKnown) return;
      const { publications } = await ben.room.history({ last: 10 });
      assert.deepEqual(publications.map(({ data }) => data), ["before", "while it is away"]);
    });
  }

  for (const code of [4000, 4001, 4099, 1008]) {
    test(`who is sent away with ${code} stays away, until a person wants it otherwise`, async () => {
      await begin();
      const gateway = await Gateway.to(server);
      closings.push(() => gateway.stop());
      const ada = await member(gateway);
      await ada.room.publish("before");
      gateway.close(code, JSON.stringify({ reason: "forbidden" }));
      await ada.isIn("closed");
      const { state, retryAt, reason } = ada.connection.status;
      assert.deepEqual([state, retryAt, reason], ["closed", null, "forbidden"]);
      await assert.rejects(ada.room.publish("too late"), ClosedError);
      assert.deepEqual(ada.connection.rooms, ["tea"]);
      await server.reaches({ throng_connections: 0 });
      ada.connection.reconnect();
      await ada.room.publish("after");
      await ada.hears("after");
      assert.deepEqual(ada.data, ["before", "after"]);
      assert.equal(ada.states.filter(({ state }) => state === "open").length, 2);
    });
  }

  test("what was under way when it was sent away may have arrived, and its key says so", async () => {
    await begin();
    const gateway = await Gateway.to(server);
    closings.push(() => gateway.stop());
    const [ada, ben] = [await member(gateway), await member()];
    gateway.mute();
    const outcome = ada.room.publish("did it arrive?");
    await ben.hears("did it arrive?");
    gateway.close(4001, "");
    const error = await outcome.then(assert.fail, (reason) => reason);
    assert.ok(error instanceof UnknownOutcomeError, String(error));
    ada.connection.reconnect();
    const again = await ada.room.publish("did it arrive?", { key: error.key });
    assert.equal(again.duplicate, true);
    await ben.room.publish("it did");
    await ada.hears("it did");
    assert.deepEqual(ben.data, ["did it arrive?", "it did"]);
    assert.deepEqual(ada.data, ["did it arrive?", "it did"]);
  });

  test("what the server refuses is said, and harms nothing else", async () => {
    await begin({ THRONG_MAX_ROOMS_PER_CONNECTION: "1", THRONG_MAX_PUBLICATION_BYTES: "100" });
    const ada = await member();
    const refused = (code) => (error) => error instanceof RefusedError && error.code === code;
    await assert.rejects(ada.connection.room("cake").join(), refused("too_many_rooms"));
    await assert.rejects(ada.room.publish("x".repeat(200)), refused("too_large"));
    await assert.rejects(ada.connection.room("r".repeat(300)).publish(1), refused("bad_room"));
    await ada.room.publish("small");
    assert.deepEqual(ada.data, ["small"]);
    assert.deepEqual(ada.connection.rooms, ["tea"]);
    await ada.room.leave();
    await server.reaches({ throng_members: 0, throng_connections: 1 });
  });
});

/** The numbers from one to another. */
function numbers(from, to) {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

/** Chance that is the same in every run: numbers from 0 up to but not including 1 (mulberry32). */
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
