/**
 * @file The library on real sockets: npm `ws`'s, and Node's own where it has them.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, beforeEach, describe, test } from "node:test";
import { connect } from "@throng/client";
import ws from "ws";
import { RoomServer, fastClock } from "./support/server.mjs";

const CLASSES = { "npm ws": ws, ...(globalThis.WebSocket && { Node: globalThis.WebSocket }) };

/** Resolves with what comes next. */
function next(of, event, isWanted = () => true) {
  return new Promise((resolve) => {
    const off = of.on(event, (detail) => {
      if (!isWanted(detail)) return;
      off();
      resolve(detail);
    });
  });
}

for (const [name, WebSocket] of Object.entries(CLASSES)) {
  describe(`with the WebSocket of ${name}`, { timeout: 60_000 }, () => {
    /** @type {RoomServer} */
    let server;
    let roomName;
    let count = 0;

    before(async () => {
      server = await RoomServer.start();
    });
    after(() => server.stop());
    beforeEach(() => {
      count += 1;
      roomName = `tea ${count}`;
    });

    /** A room of a connection of its own, which ends with the test. */
    function enter(t, options = {}) {
      const connection = connect(server.url, { WebSocket, clock: fastClock(100), ...options });
      t.after(() => connection.close());
      return { connection, room: connection.room(roomName) };
    }

    test("what one publishes the other gets, and the publisher too", async (t) => {
      const [alice, bob] = [enter(t), enter(t)];
      await Promise.all([alice.room.join(), bob.room.join()]);
      const heard = [alice, bob].map(({ room }) => next(room, "publication"));
      const ack = await alice.room.publish({ text: "hi" });
      assert.deepEqual(ack.position, { epoch: "e1", offset: 1 });
      for (const publication of await Promise.all(heard)) {
        assert.deepEqual(publication.data, { text: "hi" });
        assert.equal(publication.from, alice.connection.hello.connection);
      }
    });

    test("an event reaches the members", async (t) => {
      const [alice, bob] = [enter(t), enter(t)];
      await Promise.all([alice.room.join(), bob.room.join()]);
      const heard = next(bob.room, "event");
      assert.equal(alice.room.emit("typing", { who: "alice" }), true);
      assert.deepEqual((await heard).data, { who: "alice" });
    });

    test("an iterator made before the join has the replay and what comes after it", async (t) => {
      const { room } = enter(t);
      for (const data of ["a", "b", "c"]) await room.publish(data);
      const publications = room.publications();
      await room.join({ last: 2 });
      room.publish("d");
      const seen = [];
      for await (const { offset, data } of publications) {
        seen.push([offset, data]);
        if (data === "d") break;
      }
      assert.deepEqual(seen, [
        [2, "b"],
        [3, "c"],
        [4, "d"],
      ]);
    });

    test("history is read page by page", async (t) => {
      const { room } = enter(t);
      for (let number = 1; number <= 5; number += 1) await room.publish(number);
      const seen = [];
      let page = { position: { epoch: "e1", offset: 0 }, more: true };
      while (page.more) {
        page = await room.history({ since: page.position, limit: 2 });
        assert.equal(page.recovered, true);
        seen.push(page.publications.map(({ data }) => data));
      }
      assert.deepEqual(seen, [[1, 2], [3, 4], [5]]);
      const none = await enter(t).connection.room(`no ${roomName}`).history({ last: 5 });
      assert.deepEqual([none.position, none.publications], [null, []]);
    });

    test("a key that was used is acknowledged and not delivered again", async (t) => {
      const { room } = enter(t);
      const first = await room.publish(1, { key: "once" });
      const again = await enter(t).room.publish(1, { key: "once" });
      assert.deepEqual([first.duplicate, again.duplicate], [false, true]);
      assert.deepEqual(again.position, first.position);
      assert.equal(server.room(roomName).log.length, 1);
    });

    test("after a drain it comes back, and misses nothing", async (t) => {
      const { connection, room } = enter(t);
      await room.join();
      await room.publish("before");
      const waiting = next(connection, "state", ({ state }) => state === "waiting");
      const joined = next(room, "joined", ({ again }) => again);
      server.restart(1000);
      const { code, reason } = await waiting;
      assert.deepEqual([code, reason], [4100, "drain"]);
      server.room(roomName).publish("somebody", "between");
      assert.equal((await next(room, "publication")).data, "between");
      assert.deepEqual(await joined, {
        room: roomName,
        position: { epoch: server.room(roomName).epoch, offset: 2 },
        first: 2,
        recovered: true,
        again: true,
      });
    });

    test("a server that has forgotten says so", async (t) => {
      const { room } = enter(t);
      await room.join();
      for (let number = 1; number <= 3; number += 1) await room.publish(number);
      const [gap, publication] = [next(room, "gap"), next(room, "publication")];
      const [connection] = server.room(roomName).members;
      connection.close(4102, { reason: "slow_consumer", after_ms: 1000 });
      await once(connection.socket, "close");
      for (const data of [4, 5, 6]) server.room(roomName).publish("somebody", data);
      server.room(roomName).keep(1);
      const { reason, from, to } = await gap;
      assert.deepEqual([reason, from, to], ["evicted", 4, 5]);
      assert.equal((await publication).data, 6);
    });

    test("leaving is seen by the server", async (t) => {
      const { room } = enter(t);
      await room.join();
      assert.equal(server.room(roomName).members.size, 1);
      await room.leave();
      assert.equal(server.room(roomName).members.size, 0);
    });

    test("a server that is not there, and then is", async (t) => {
      const late = await RoomServer.start();
      const { port, url } = late;
      await late.stop();
      const connection = connect(url, { WebSocket, clock: fastClock(100) });
      t.after(() => connection.close());
      const published = connection.room(roomName).publish("patience");
      await next(connection, "state", ({ state }) => state === "waiting");
      const there = await RoomServer.start({ port });
      t.after(() => there.stop());
      assert.equal((await published).position.offset, 1);
    });

    test("a server that does not speak throng.v1 is one that is not there", async (t) => {
      const other = await RoomServer.start({ subprotocol: false });
      t.after(() => other.stop());
      const connection = connect(other.url, { WebSocket });
      t.after(() => connection.close());
      const { code } = await next(connection, "state", ({ state }) => state === "waiting");
      assert.equal(code, 1006);
    });
  });
}

test("the README's program for Node runs as it is", { timeout: 60_000 }, async (t) => {
  const server = await RoomServer.start();
  t.after(() => server.stop());
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const [, program] = /```js\n([^]*?)```/.exec(readme);
  const child = spawn(
    process.execPath,
    ["--input-type=module", "--eval", program.replace("ws://127.0.0.1:8080/ws", server.url)],
    { cwd: new URL("..", import.meta.url), stdio: ["ignore", "pipe", "pipe"] },
  );
  t.after(() => child.kill());
  const printed = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"]) {
    child[stream].on("data", (data) => (printed[stream] += data));
  }
  const [code] = await once(child, "close");
  assert.deepEqual([code, printed.stderr], [0, ""]);
  assert.match(printed.stdout, /^1 .*hello from Node/);
});
