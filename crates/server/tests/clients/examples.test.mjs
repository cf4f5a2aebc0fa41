/**
 * @file The examples, as golem's are used: each page in a real browser, in several tabs where it is about
 * rooms; and each server by npm's `ws`, which nobody here wrote, as are the encoders of BSON and MessagePack.
 */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Decoder, Encoder } from "@msgpack/msgpack";
import { BSON } from "bson";
import WebSocket from "ws";
import { Client } from "./client.mjs";
import { Person, launchBrowser } from "./person.mjs";
import { Server, within } from "./server.mjs";

/** @type {import("playwright-core").Browser} */
let browser;

before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

/** Tests of one example, each with a server and visitors of its own. */
function example(name, tests) {
  describe(`the example ${name}`, () => {
    /** @type {House} */
    const house = new House();
    beforeEach(async () => {
      house.server = await Server.example(name);
    });
    afterEach(() => house.end());
    tests(house);
  });
}

/** A server, and who visits it. */
class House {
  /** @type {Server} */
  server;
  #tabs = [];
  #clients = [];

  /** The example's page, in a browser of its own or another tab of somebody's. */
  async tab(beside, query = "") {
    const context = beside ? beside.context : await browser.newContext();
    const tab = await Person.inTab(context, this.server.url + query);
    this.#tabs.push(tab);
    return tab;
  }

  /** A program. */
  async client(options) {
    const client = await Client.connect(this.server, options);
    this.#clients.push(client);
    return client;
  }

  /** Everybody goes, and no page had anything to complain about; then Ctrl-C. */
  async end() {
    const tabs = this.#tabs.splice(0);
    const server = this.server;
    this.server = undefined;
    if (!server) return;
    await Promise.all(this.#clients.splice(0).map((client) => client.end()));
    await Promise.all(tabs.map(({ context }) => context.close()));
    await server.reaches({ throng_connections: 0, throng_rooms: 0, throng_members: 0 });
    await server.stop();
    assert.deepEqual(
      tabs.flatMap(({ complaints }) => complaints),
      [],
    );
  }
}

/** Waits until a page has said exactly these lines, in the page and on its console. */
async function says(tab, ...lines) {
  const items = tab.page.locator("#log li");
  await items.nth(lines.length - 1).waitFor();
  assert.deepEqual(await items.allTextContents(), lines);
  const own = tab.lines.filter((line) => !line.startsWith("golem: "));
  assert.deepEqual(own, lines);
}

/** What the chat page shows. */
async function shows(tab, ...lines) {
  const items = tab.page.locator("#chat div");
  await items.nth(lines.length - 1).waitFor();
  assert.deepEqual(await items.allTextContents(), lines);
}

/** Submits one of the chat page's forms. */
async function submits(tab, form, fields) {
  for (const [name, value] of Object.entries(fields)) {
    await tab.page.locator(`#${form}-form [name=${name}]`).fill(value);
  }
  await tab.page.locator(`#${form}-form button`).click();
}

/** Asks for something with an answer of its own, behind which all earlier is done. */
async function answers(client, event, data, answer, wanted) {
  client.emit(event, data);
  assert.deepEqual(await client.next(), [answer, wanted]);
}

const THANKS = { msg: "Thanks, client!" };
const OUCH = { msg: "Ouch I am sensible!" };
const HELLO = { to: "Server", from: "Client" };

for (const name of ["simple", "extended_connection"]) {
  example(name, (house) => {
    test("its page greets, pokes, and is answered", async () => {
      const tab = await house.tab();
      await says(tab, "Answer: Thanks, client!", "Answer: Ouch I am sensible!");
      await house.server.logs(/hello from Client to Server/);
      await house.server.logs(/poked/);
      // golem.js says itself what happens, for it was told to.
      assert.deepEqual(
        tab.lines.filter((line) => line.startsWith("golem: ")),
        ["golem: connected", "golem: received answer", "golem: received answer"],
      );
    });

    test("a program is answered the same, whatever it sends along with a poke", async () => {
      const client = await house.client();
      await answers(client, "hello", HELLO, "answer", THANKS);
      // JSON.stringify(undefined): `poke undefined`, as golem.js sends it.
      await answers(client, "poke", undefined, "answer", OUCH);
      client.socket.send("poke");
      assert.deepEqual(await client.next(), ["answer", OUCH]);
      await answers(client, "poke", { any: "thing" }, "answer", OUCH);
    });

    test("data that is no hello is answered by an error, and nothing ends", async () => {
      const client = await house.client();
      for (const data of [undefined, {}, { to: 1, from: 2 }, "hello"]) {
        client.emit("hello", data);
        const { code, event } = await client.isToldError();
        assert.deepEqual({ code, event }, { code: "bad_data", event: "hello" });
      }
      await answers(client, "hello", HELLO, "answer", THANKS);
    });
  });
}

example("extended_connection", (house) => {
  test("each connection counts for itself", async () => {
    const [first, second] = [await house.client(), await house.client()];
    for (const client of [first, second, first]) {
      await answers(client, "poke", undefined, "answer", OUCH);
    }
    const lines = await house.server.logs(/counter/, 3);
    assert.deepEqual(
      lines.map((line) => /counter (\d+)/.exec(line)[1]),
      ["2", "2", "3"],
    );
  });
});

example("data", (house) => {
  test("its page is answered for each of the ways", async () => {
    const tab = await house.tab();
    await says(
      tab,
      "JSON: Hi json!",
      "Raw: Raw byte array received.",
      "Custom: Custom handler use to receive data.",
      "JSON: Hi from nodata!",
    );
    // As they came: nothing has taken the quotes away.
    await house.server.logs(/raw: "Hi raw!"/);
    await house.server.logs(/custom: "Hi string!"/);
    await tab.page.close();
    await house.server.logs(/a client has gone/);
  });

  test("what is not JSON is refused only where JSON is wanted", async () => {
    const client = await house.client();
    client.socket.send("json {");
    assert.equal((await client.isToldError()).code, "bad_data");
    client.socket.send("raw {");
    assert.deepEqual(await client.next(), ["raw", "Raw byte array received."]);
    client.socket.send("custom {");
    assert.deepEqual(await client.next(), ["custom", "Custom handler use to receive data."]);
    client.socket.send("nodata {");
    assert.deepEqual(await client.next(), ["json", { msg: "Hi from nodata!" }]);
  });
});

example("room", (house) => {
  test("each page hears itself and those that come later", async () => {
    const first = await house.tab();
    await says(first, "Hi lobby!");
    const second = await house.tab(first);
    await says(second, "Hi lobby!");
    const third = await house.tab();
    await says(third, "Hi lobby!");
    await says(second, "Hi lobby!", "Hi lobby!");
    await says(first, "Hi lobby!", "Hi lobby!", "Hi lobby!");
  });

  test("a program joins without data, and is heard by all who have", async () => {
    const [member, outsider] = [await house.client(), await house.client()];
    member.emit("join");
    // Twice is once.
    member.emit("join");
    await answers(member, "msg", { msg: "mine" }, "msg", { msg: "mine" });
    outsider.emit("msg", { msg: "from the street" });
    assert.deepEqual(await member.next(), ["msg", { msg: "from the street" }]);
    await answers(member, "msg", { msg: "only once" }, "msg", { msg: "only once" });
  });
});

for (const name of ["chat", "chat_options"]) {
  example(name, (house) => {
    test("who is in a room hears what is sent to it, from wherever", async () => {
      const [ada, bob, cy] = [await house.tab(), await house.tab(), await house.tab()];
      await submits(ada, "join", { name: "tea" });
      await submits(bob, "join", { name: "tea" });
      await submits(bob, "join", { name: "coffee" });
      await submits(cy, "join", { name: "coffee" });
      await house.server.reaches({ throng_members: 4, throng_rooms: 2 });
      await submits(ada, "chat", { to: "tea", msg: "first" });
      await shows(bob, "first");
      await submits(cy, "chat", { to: "tea", msg: "from outside" });
      await shows(ada, "first", "from outside");
      await submits(cy, "chat", { to: "coffee", msg: "strong" });
      await shows(bob, "first", "from outside", "strong");
      await shows(cy, "strong");
      await shows(ada, "first", "from outside");
    });

    test("who has left hears nothing more", async () => {
      const [ada, bob] = [await house.tab(), await house.tab()];
      for (const room of ["tea", "coffee"]) await submits(ada, "join", { name: room });
      await submits(bob, "join", { name: "tea" });
      await house.server.reaches({ throng_members: 3 });
      await submits(ada, "leave", { name: "tea" });
      await house.server.reaches({ throng_members: 2 });
      await submits(bob, "chat", { to: "tea", msg: "anybody?" });
      await shows(bob, "anybody?");
      await submits(bob, "chat", { to: "coffee", msg: "are you here?" });
      await shows(ada, "are you here?");
    });

    test("what nobody can mean is refused, in words", async () => {
      const tab = await house.tab();
      await submits(tab, "join", { name: "" });
      await tab.page.locator("#log li").getByText(/^Refused: /).waitFor();
      const client = await house.client();
      client.emit("msg", { to: "tea" });
      assert.equal((await client.isToldError()).code, "bad_data");
      client.emit("shout", {});
      assert.equal((await client.isToldError()).code, "unknown_event");
    });
  });
}

example("chat", (house) => {
  test("programs join, speak and leave, and stay when they have left the last room", async () => {
    const [ada, bob] = [await house.client(), await house.client()];
    await ada.join("tea");
    await bob.join("tea");
    ada.say("tea", "hi");
    await ada.hears("hi");
    await bob.hears("hi");
    await ada.leave("tea");
    bob.say("tea", "gone?");
    await bob.hears("gone?");
    await ada.settle();
  });

  test("the page says that the server has gone", async () => {
    const tab = await house.tab();
    await says(tab, "Connected.");
    await house.server.stop();
    await says(tab, "Connected.", "Disconnected.");
    house.server = await Server.example("chat");
  });
});

example("chat_options", (house) => {
  test("who leaves the last room is disconnected, and nobody else", async () => {
    const [ada, bob] = [await house.tab(), await house.client()];
    await says(ada, "Connected.");
    for (const room of ["tea", "coffee"]) await submits(ada, "join", { name: room });
    bob.emit("join", { name: "tea" });
    await house.server.reaches({ throng_members: 3 });
    await submits(ada, "leave", { name: "coffee" });
    await house.server.logs(/room removed: coffee/);
    await submits(ada, "leave", { name: "tea" });
    await says(ada, "Connected.", "Disconnected.");
    bob.say("tea", "still here");
    await bob.hears("still here");
    bob.emit("leave", { name: "tea" });
    assert.deepEqual(await bob.isClosed(), { code: 1000, reason: "left the last room" });
    await house.server.logs(/room removed: tea/);
    assert.equal((await house.server.logs(/room created: /, 2)).length, 2);
  });
});

example("session", (house) => {
  /** The status that a handshake with this cookie is refused with. */
  async function refused(cookie) {
    const socket = new WebSocket(house.server.wsUrl, { headers: cookie ? { cookie } : {} });
    const refusal = new Promise((resolve, reject) => {
      socket.once("unexpected-response", (_, response) => resolve(response.statusCode));
      socket.once("open", () => reject(new Error("was let in")));
    });
    socket.on("error", () => {});
    return within("a refusal", refusal).finally(() => socket.terminate());
  }

  /** Posts as the page's buttons do; returns the cookie that is set. */
  async function post(path, cookie) {
    const response = await fetch(new URL(path, house.server.url), {
      method: "POST",
      redirect: "manual",
      headers: cookie ? { cookie } : {},
    });
    assert.equal(response.status, 303);
    assert.equal(response.headers.get("location"), "/");
    return response.headers.getSetCookie()[0].split(";")[0];
  }

  test("its page connects when its visitor has logged in, until he logs out", async () => {
    const tab = await house.tab();
    await says(tab, "Disconnected.");
    const stranger = await house.tab();
    const click = async (name) => {
      tab.lines.length = 0;
      await tab.page.getByRole("button", { name }).click();
    };
    await click("Login");
    await says(tab, "Connected.");
    const another = await house.tab(tab);
    await says(another, "Connected.");
    await stranger.page.reload();
    stranger.lines.length = 0;
    await says(stranger, "Disconnected.");
    await click("Logout");
    await says(tab, "Disconnected.");
  });

  test("a program needs a session that is open, not just any", async () => {
    assert.equal(await refused(), 401);
    assert.equal(await refused("throng.sid="), 401);
    assert.equal(await refused(`throng.sid=${"0".repeat(32)}`), 401);
    const cookie = await post("login");
    const client = await house.client({ headers: { cookie: `other=1; ${cookie}` } });
    await answers(client, "ping", undefined, "pong", null);
    await post("logout", cookie);
    assert.equal(await refused(cookie), 401);
    // Whose session it was has other connections still.
    await answers(client, "ping", undefined, "pong", null);
  });
});

example("lounge", (house) => {
  const click = (tab, name) => tab.page.getByRole("button", { name, exact: true }).click();

  test("visitors hear who comes and goes, and ask who is where", async () => {
    const ada = await house.tab(undefined, "?ada");
    await says(ada, "Connected.");
    await click(ada, "Join");
    const bob = await house.tab(undefined, "?bob");
    await click(bob, "Who is there?");
    await says(bob, "Connected.", "There: ada.");
    await click(bob, "Join");
    await click(bob, "Who is there?");
    await says(bob, "Connected.", "There: ada.", "There: ada, bob.");
    await click(bob, "Leave all");
    await click(bob, "Who is there?");
    await says(bob, "Connected.", "There: ada.", "There: ada, bob.", "There: ada.");
    await click(bob, "Bye");
    await says(ada, "Connected.", "bob has come.", "bob has gone.");
    await bob.page.locator("#log li").getByText("Disconnected.").waitFor();
  });

  test("the host may do what others may not", async () => {
    const ada = await house.tab(undefined, "?ada");
    await says(ada, "Connected.");
    await click(ada, "Join");
    const said = ["Connected."];
    for (const name of ["Destroy the room", "Stop all rooms", "Announce"]) {
      await click(ada, name);
      said.push("Refused: this is for the host");
      await says(ada, ...said);
    }
    const host = await house.tab(undefined, "?host");
    await click(host, "Announce");
    said.push("host has come.", "Announcement: We close soon.");
    await says(ada, ...said);
    await says(host, "Connected.", "Announcement: We close soon.");
    // Both in the lobby, ada in her room too.
    await house.server.reaches({ throng_members: 3 });
    await click(host, "Destroy the room");
    await house.server.reaches({ throng_members: 2 });
    await click(host, "Stop all rooms");
    await house.server.reaches({ throng_members: 0, throng_connections: 2 });
    await click(ada, "Join");
    await ada.page.locator("#log li").nth(said.length).waitFor();
    assert.match(ada.lines.at(-1), /^Refused: /);
  });

  test("what is typed at the terminal is announced to everybody", async () => {
    const tab = await house.tab();
    await says(tab, "Connected.");
    const client = await house.client();
    await says(tab, "Connected.", "somebody has come.");
    house.server.types("the bar is open");
    assert.deepEqual(await client.next(), ["announcement", "the bar is open"]);
    await says(tab, "Connected.", "somebody has come.", "Announcement: the bar is open");
    await house.server.logs(/to 2 connections: the bar is open/);
  });

  test("a visitor that leaves is told why, in a close frame", async () => {
    const client = await house.client();
    client.emit("bye");
    assert.deepEqual(await client.isClosed(), { code: 1000, reason: "bye" });
  });
});

/** golem's BSON: a document `{ e: event, d: data }`, by npm's `bson`. */
const bsonEvents = {
  encode: (e, d) => BSON.serialize({ e, d }, { ignoreUndefined: true }),
  decode(message, isBinary) {
    assert.equal(isBinary, true, "BSON comes in binary frames");
    const { e, d } = BSON.deserialize(message);
    return [e, d];
  },
};

/** A document of so many levels, which an encoder that calls itself could not write. */
function nested(levels) {
  // Each level is a length, a type, an empty name, what is in it, and a zero: 7 bytes and the next level.
  const bytes = Buffer.alloc(levels * 7 + 5);
  for (let level = 0, at = 0; level <= levels; level += 1, at += 6) {
    bytes.writeInt32LE((levels - level) * 7 + 5, at);
    if (level < levels) bytes[at + 4] = 3;
  }
  return bytes;
}

example("protocol", (house) => {
  test("its page greets, pokes, and is answered in BSON", async () => {
    const tab = await house.tab();
    await says(tab, "Answer: Thanks, client!", "Answer: Ouch I am sensible!");
  });

  test("a program whose encoder nobody here wrote is answered", async () => {
    const client = await house.client({ codec: bsonEvents });
    await answers(client, "hello", HELLO, "answer", THANKS);
    await answers(client, "poke", undefined, "answer", OUCH);
    await answers(client, "poke", null, "answer", OUCH);
    // Fields that nobody asked for, of types that JSON has not.
    const more = { ...HELLO, id: new BSON.ObjectId(), at: new Date(), re: /x/, big: 2n ** 60n };
    await answers(client, "hello", more, "answer", THANKS);
  });

  test("what is no event is answered, closes nothing, and harms nobody", async () => {
    const client = await house.client({ codec: bsonEvents });
    const bystander = await house.client({ codec: bsonEvents });
    const good = Buffer.from(bsonEvents.encode("hello", HELLO));
    const changed = (change) => {
      const bytes = Buffer.from(good);
      change(bytes);
      return bytes;
    };
    const bad = {
      "nothing": Buffer.alloc(0),
      "half a length": good.subarray(0, 3),
      "half a document": good.subarray(0, 20),
      "a length over the end": changed((bytes) => bytes.writeInt32LE(0x7fffffff, 0)),
      "a negative length": changed((bytes) => bytes.writeInt32LE(-1, 0)),
      "a text over the end": changed((bytes) => bytes.writeInt32LE(0x7fffffff, 7)),
      "a text of negative length": changed((bytes) => bytes.writeInt32LE(-5, 7)),
      "an inner document over the end": changed((bytes) => bytes.writeInt32LE(0x7000, 20)),
      "a type that there is not": changed((bytes) => bytes.fill(0x42, 4, 5)),
      "text that is not UTF-8": changed((bytes) => bytes.fill(0xff, 11, 12)),
      "no end": changed((bytes) => bytes.fill(1, bytes.length - 1)),
      "more than a document": Buffer.concat([good, good]),
      "no name": BSON.serialize({ d: HELLO }),
      "a name that is a number": BSON.serialize({ e: 1, d: HELLO }),
      "an empty name": BSON.serialize({ e: "", d: HELLO }),
      "a name with a space": BSON.serialize({ e: "hel lo", d: HELLO }),
      "a name that is too long": BSON.serialize({ e: "x".repeat(65), d: HELLO }),
      "data that is a text": BSON.serialize({ e: "hello", d: "Server" }),
      "data of 9000 levels": nested(9000),
      "data that nests too deep by a little": nested(40),
    };
    for (const [what, bytes] of Object.entries(bad)) {
      client.socket.send(bytes);
      const { code } = await client.isToldError();
      assert.equal(code, "bad_message", what);
    }
    for (const data of [{}, { to: 1, from: 2 }, [1, 2], undefined]) {
      client.emit("hello", data);
      assert.equal((await client.isToldError()).code, Array.isArray(data) ? "bad_message" : "bad_data");
    }
    client.socket.send('hello {"to":"Server","from":"Client"}');
    assert.equal((await client.isToldError()).code, "text");
    client.emit("shout", {});
    assert.equal((await client.isToldError()).code, "unknown_event");
    for (const each of [client, bystander]) {
      await answers(each, "hello", HELLO, "answer", THANKS);
    }
  });

  test("no cut and no changed byte of a message does more than be refused", async () => {
    const client = await house.client({ codec: bsonEvents });
    const good = Buffer.from(bsonEvents.encode("hello", HELLO));
    let sent = 0;
    for (let at = 0; at < good.length; at += 1) {
      client.socket.send(good.subarray(0, at));
      const bytes = Buffer.from(good);
      bytes[at] ^= 0x55;
      client.socket.send(bytes);
      sent += 2;
    }
    for (let answered = 0; answered < sent; answered += 1) {
      const [event] = await client.next();
      assert.match(event, /^(answer|error)$/);
    }
    await answers(client, "hello", HELLO, "answer", THANKS);
  });
});

/** MessagePack: an array of the event's name and its data, by npm's `@msgpack/msgpack`. */
const encoder = new Encoder();
const decoder = new Decoder();
const msgpackEvents = {
  encode: (event, data) => encoder.encode(data === undefined ? [event] : [event, data]),
  decode(message, isBinary) {
    assert.equal(isBinary, true, "MessagePack comes in binary frames");
    return decoder.decode(message);
  },
};

example("messagepack", (house) => {
  const READING = { sensor: "ö", values: [1, -2.5, 1e300] };
  const msgpack = async () => {
    const client = await house.client({ protocols: ["msgpack"], codec: msgpackEvents });
    assert.equal(client.socket.protocol, "msgpack");
    return client;
  };

  test("its page, in JSON, sees what a program sends in MessagePack, and the other way round", async () => {
    const tab = await house.tab();
    await says(tab, "Reading: page 1, 2.5");
    const client = await msgpack();
    client.emit("watch");
    await answers(client, "reading", READING, "reading", READING);
    await says(tab, "Reading: page 1, 2.5", "Reading: ö 1, -2.5, 1e+300");
    await house.tab();
    assert.deepEqual(await client.next(), ["reading", { sensor: "page", values: [1, 2.5] }]);
  });

  test("programs of both protocols hear the same in one order", async () => {
    const [json, binary] = [await house.client(), await msgpack()];
    for (const client of [json, binary]) {
      client.emit("watch");
      await answers(client, "average", { sensor: "", values: [1, 2] }, "average", 1.5);
    }
    const readings = Array.from({ length: 50 }, (_, number) => ({ sensor: `${number}`, values: [number] }));
    for (const [number, reading] of readings.entries()) {
      [json, binary][number % 2].emit("reading", reading);
    }
    const heard = async (client) => {
      const events = [];
      while (events.length < readings.length) events.push(await client.next());
      return events;
    };
    const [first, second] = await Promise.all([json, binary].map(heard));
    assert.deepEqual(first, second);
    assert.deepEqual(new Set(first.map(([, { sensor }]) => sensor)).size, readings.length);
  });

  test("what is no event is answered, closes nothing, and harms nobody", async () => {
    const [client, bystander] = [await msgpack(), await msgpack()];
    const bad = {
      "nothing": [],
      "no array": [0xc0],
      "an array of three": [...encoder.encode(["average", READING, 1])],
      "an array without an end": [0x92, 0xa1, 0x61],
      "a name that is a number": [...encoder.encode([1, READING])],
      "a name over the end": [0x92, 0xd9, 0xff, 0x61],
      "a name that is not UTF-8": [0x92, 0xa1, 0xff, 0xc0],
      "an empty name": [...encoder.encode(["", READING])],
      "a name with a space": [...encoder.encode(["a b", READING])],
    };
    for (const [what, bytes] of Object.entries(bad)) {
      client.socket.send(Buffer.from(bytes));
      assert.equal((await client.isToldError()).code, "bad_message", what);
    }
    const average = [...encoder.encode(["average"])].slice(1);
    const wrong = {
      "no data": [0x91, ...average],
      "half of the data": [...encoder.encode(["average", READING])].slice(0, -3),
      "a map that says it has four billion entries": [0x92, ...average, 0xdf, 0xff, 0xff, 0xff, 0xff],
      "values that say they are four billion": [
        ...[0x92, ...average, 0x82, ...encoder.encode("sensor"), ...encoder.encode("")],
        ...[...encoder.encode("values"), 0xdd, 0xff, 0xff, 0xff, 0xff],
      ],
      "a text that says it has four billion bytes": [0x92, ...average, 0xdb, 0xff, 0xff, 0xff, 0xff],
      "data of 60,000 levels": [0x92, ...average, ...Array(60_000).fill(0x91), 0xc0],
      "60,000 levels in a field that nobody reads": [
        ...[0x92, ...average, 0x83, ...encoder.encode("more"), ...Array(60_000).fill(0x91), 0xc0],
        ...[...encoder.encode("sensor"), 0xa0, ...encoder.encode("values"), 0x90],
      ],
    };
    for (const [what, bytes] of Object.entries(wrong)) {
      client.socket.send(Buffer.from(bytes));
      assert.equal((await client.isToldError()).code, "bad_data", what);
    }
    client.socket.send("average {}");
    assert.equal((await client.isToldError()).code, "text");
    for (const each of [client, bystander]) {
      await answers(each, "average", READING, "average", (1 - 2.5 + 1e300) / 3);
    }
  });
});
