/**
 * @file golem's wire, spoken by npm's `ws`: a client that nobody here wrote.
 *
 * Every test runs with both ways to flush and with one core and two, because who shares a core with
 * whom must make no difference to anybody.
 */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Client } from "./client.mjs";
import { Server, within } from "./server.mjs";

/** Above any message that an operator would let through unasked. */
const OVERSIZED_BYTES = 2 << 20;

for (const flush of ["auto", "write"]) {
  for (const cores of ["1", "2"]) {
    describe(`golem's wire, flush ${flush}, cores ${cores}`, () => {
      /** @type {Server} */
      let server;
      const env = { THRONG_FLUSH: flush, THRONG_CORES: cores };

      before(async () => {
        server = await Server.start(env);
      });
      after(() => server?.stop());

      /** `count` clients, members of `room` if there is one; they end with the test. */
      async function clients(t, count, room) {
        const all = await Promise.all(Array.from({ length: count }, () => Client.connect(server)));
        t.after(() => Promise.all(all.map((client) => client.end())));
        if (room) await Promise.all(all.map((client) => client.join(room)));
        return all;
      }

      test("a message reaches every member of its room, and its sender too", async (t) => {
        const all = await clients(t, 4, "tea");
        all[0].say("tea", "hi");
        for (const client of all) await client.hears("hi");
      });

      test("a publisher that is no member is heard and hears nothing", async (t) => {
        const [alice] = await clients(t, 1, "outside");
        const [bob] = await clients(t, 1);
        bob.say("outside", "from the street");
        await alice.hears("from the street");
        await bob.settle();
      });

      test("rooms do not hear each other", async (t) => {
        const [alice] = await clients(t, 1, "here");
        const [bob] = await clients(t, 1, "there");
        alice.say("here", 1);
        await alice.hears(1);
        bob.say("there", 2);
        await bob.hears(2);
        await alice.settle();
      });

      test("a client is a member of several rooms at once", async (t) => {
        const [alice, bob] = await clients(t, 2, "first");
        await alice.join("second");
        bob.say("first", 1);
        await bob.hears(1);
        bob.say("second", 2);
        await alice.hears(1);
        await alice.hears(2);
      });

      test("members hear several publishers in one order, and each publisher in its own", async (t) => {
        const publishers = 4;
        const each = 250;
        const all = await clients(t, publishers + 2, "order");
        const heard = all.map((client) => client.messages(publishers * each));
        for (let number = 0; number < each; number += 1) {
          for (let from = 0; from < publishers; from += 1) all[from].say("order", { from, number });
        }
        const [first, ...others] = await Promise.all(heard);
        for (const other of others) assert.deepEqual(other, first);
        for (let from = 0; from < publishers; from += 1) {
          const numbers = first.filter((msg) => msg.from === from).map((msg) => msg.number);
          assert.deepEqual(
            numbers,
            Array.from({ length: each }, (_, number) => number),
          );
        }
      });

      test("who leaves a room hears it no more", async (t) => {
        const [alice, bob] = await clients(t, 2, "leaving");
        await alice.leave("leaving");
        bob.say("leaving", "are you there?");
        await bob.hears("are you there?");
        await alice.settle();
        await alice.join("leaving");
        bob.say("leaving", "welcome back");
        await alice.hears("welcome back");
      });

      test("joining twice is joining once", async (t) => {
        const [alice, bob] = await clients(t, 2, "twice");
        await alice.join("twice");
        bob.say("twice", "once");
        await alice.hears("once");
        await alice.leave("twice");
        bob.say("twice", "never");
        await bob.hears("once");
        await bob.hears("never");
        await alice.settle();
      });

      test("a closed connection is a member of nothing", async (t) => {
        const [alice] = await clients(t, 1, "gone");
        const bob = await Client.connect(server);
        await bob.join("gone");
        await bob.end();
        alice.say("gone", "still here");
        await alice.hears("still here");
      });

      test("a room without members is gone", async () => {
        const alice = await Client.connect(server);
        await alice.join("short-lived");
        await server.reaches({ throng_connections: 1, throng_rooms: 1, throng_members: 1 });
        await alice.leave("short-lived");
        await server.reaches({ throng_connections: 1, throng_rooms: 0, throng_members: 0 });
        await alice.end();
        await server.reaches({ throng_connections: 0, throng_rooms: 0, throng_members: 0 });
      });

      const values = {
        "a string": "hi",
        "an empty string": "",
        "a string with spaces and a frame in it": 'msg {"to":"lobby","msg":"no"}',
        "letters of many scripts and an emoji": "Grüße, 你好, שלום, नमस्ते, 👩‍👩‍👧‍👦",
        escapes: 'quote " backslash \\ newline \n tab \t nul \u0000 line \u2028',
        "a number": 42,
        "a number with a fraction": -0.125,
        "a large number": 9_007_199_254_740_991,
        true: true,
        null: null,
        "an empty object": {},
        "a nested object": { a: [{ b: { c: [null, 1, "two", { to: "tea", msg: "x" }] } }], "": 0 },
        "an array": [1, [2, [3, []]]],
        "a text of 4,000 letters": "x".repeat(4000),
      };
      for (const [name, value] of Object.entries(values)) {
        test(`${name} comes out as it went in`, async (t) => {
          const [alice, bob] = await clients(t, 2, "values");
          alice.say("values", value);
          await alice.hears(value);
          await bob.hears(value);
        });
      }

      test("a room may have any name that JSON can say", async (t) => {
        const name = 'tea & "biscuits" – 茶 👋';
        const [alice] = await clients(t, 1, name);
        alice.say(name, "hi");
        await alice.hears("hi");
      });

      const bad = {
        "an unknown event": 'dance {"name":"tea"}',
        "invalid JSON": 'join {"name":',
        "JSON with something after it": 'join {"name":"tea"} {}',
        "an event without a space": "join",
        "an event without JSON": "join ",
        "JSON without an event": ' {"name":"tea"}',
        "an empty frame": "",
        "a room that is a number": 'join {"name":5}',
        "a room that is null": 'leave {"name":null}',
        "a join without a room": "join {}",
        "a join of a list": 'join ["tea"]',
        "a message to a number": 'msg {"to":7,"msg":"hi"}',
        "a message to nobody": 'msg {"msg":"hi"}',
        "a message without a message": 'msg {"to":"tea"}',
        "a message that is null": "msg null",
      };
      for (const [name, frame] of Object.entries(bad)) {
        test(`${name} is answered by an error, and the connection works on`, async (t) => {
          const [alice] = await clients(t, 1, "bad");
          alice.socket.send(frame);
          await alice.isToldError();
          alice.say("bad", "still here");
          await alice.hears("still here");
        });
      }

      test("an error names the event that it answers", async (t) => {
        const [alice] = await clients(t, 1);
        alice.emit("msg", { to: 7, msg: "hi" });
        assert.equal((await alice.isToldError()).event, "msg");
        alice.emit("join", { name: [] });
        assert.equal((await alice.isToldError()).event, "join");
      });

      test("a binary frame is answered by an error or by close code 1003", async (t) => {
        const [alice] = await clients(t, 1, "binary");
        alice.socket.send(Buffer.from('msg {"to":"binary","msg":"hi"}'), { binary: true });
        const told = await alice.isToldError().catch(() => null);
        if (told === null) {
          assert.equal((await alice.isClosed()).code, 1003);
        } else {
          alice.say("binary", "still here");
          await alice.hears("still here");
        }
      });

      test("a message that is too large closes with 1009, and nobody hears it", async (t) => {
        const [alice, bob] = await clients(t, 2, "large");
        alice.say("large", "x".repeat(OVERSIZED_BYTES));
        assert.equal((await alice.isClosed()).code, 1009);
        await bob.settle();
      });

      test("a header that announces too much closes with 1009, without waiting for it", async (t) => {
        const [alice] = await clients(t, 1);
        // A masked text frame of 1 GiB, of which only the header is sent.
        const header = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]);
        alice.socket._socket.write(header);
        assert.equal((await alice.isClosed()).code, 1009);
      });

      test("text that is not UTF-8 closes with 1007", async (t) => {
        const [alice] = await clients(t, 1);
        alice.socket.send(Buffer.from([0x6d, 0x73, 0x67, 0x20, 0xff, 0xfe]), { binary: false });
        assert.equal((await alice.isClosed()).code, 1007);
      });

      test("a frame that is not masked closes with 1002", async (t) => {
        const [alice] = await clients(t, 1);
        alice.socket.send('join {"name":"tea"}', { mask: false });
        assert.equal((await alice.isClosed()).code, 1002);
      });

      test("a message in fragments is one message, with a ping in between", async (t) => {
        const [alice] = await clients(t, 1, "pieces");
        const pong = new Promise((resolve) => alice.socket.once("pong", resolve));
        alice.socket.send('msg {"to":"pie', { fin: false });
        alice.socket.ping("between");
        alice.socket.send('ces","msg":"wh', { fin: false });
        alice.socket.send('ole"}', { fin: true });
        assert.equal(String(await within("a pong", pong)), "between");
        await alice.hears("whole");
      });

      test("a ping is answered by a pong with the same payload", async (t) => {
        const [alice] = await clients(t, 1);
        const pong = new Promise((resolve) => alice.socket.once("pong", resolve));
        alice.socket.ping("are you there?");
        assert.equal(String(await within("a pong", pong)), "are you there?");
      });

      test("a client that asks for no subprotocol gets none", async (t) => {
        const [alice] = await clients(t, 1);
        assert.equal(alice.socket.protocol, "");
      });

      test("a close is answered with the code that it carried", async () => {
        const alice = await Client.connect(server);
        alice.socket.close(1000, "bye");
        assert.equal((await alice.isClosed()).code, 1000);
      });

      test("SIGTERM closes every connection with 1001 and the server ends in peace", async () => {
        const other = await Server.start(env);
        const all = await Promise.all([1, 2, 3].map(() => Client.connect(other)));
        await all[0].join("last");
        const closed = all.map((client) => client.isClosed());
        await other.stop();
        for (const { code } of await Promise.all(closed)) assert.equal(code, 1001);
      });
    });
  }
}
