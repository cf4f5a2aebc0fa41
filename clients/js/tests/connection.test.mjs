/**
 * @file The connection: its states, its attempts, its end.
 */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { ClosedError, ProtocolError, connect } from "@throng/client";
import { Stage, isPending, open, rejected, taken } from "./support/stage.mjs";

describe("opening", () => {
  test("asks for the subprotocol, and is open when the server has greeted", () => {
    const stage = new Stage();
    assert.equal(stage.socket.url, "ws://throng.test/ws");
    assert.equal(stage.socket.protocols, "throng.v1");
    stage.accepts();
    assert.equal(stage.connection.state, "connecting");
    assert.equal(stage.connection.hello, null);

    stage.greets();
    assert.deepEqual(taken(stage.states), ["open"]);
    assert.deepEqual(stage.connection.hello, {
      server: "throng/0.1.0",
      connection: "Xk3",
      keepaliveMs: 25000,
      limits: {
        messageBytes: 65536,
        rooms: 128,
        roomNameBytes: 255,
        keyBytes: 64,
        historyPublications: 1000,
        historyBytes: 262144,
      },
    });
  });

  test("an attempt that takes too long is given up", () => {
    const stage = new Stage({ connectTimeoutMs: 15_000 });
    stage.passes(14_999);
    assert.equal(stage.socket.closedWith, null);
    stage.passes(1);
    assert.equal(stage.sockets[0].closedWith, 1000);
    assert.deepEqual(taken(stage.states), [
      "waiting 1006 connect timeout",
      "connecting 1006 connect timeout",
    ]);
    assert.equal(stage.sockets.length, 2);
  });

  test("a server that takes the connection and never greets is given up as well", () => {
    const stage = new Stage({ connectTimeoutMs: 15_000 });
    stage.passes(10_000).accepts();
    stage.passes(4_999);
    assert.equal(stage.sockets.length, 1);
    stage.passes(1);
    assert.equal(stage.sockets.length, 2);
  });

  test("a server that begins with something else is told of and given up", () => {
    const stage = new Stage();
    stage.accepts();
    stage.says('msg "hi"');
    assert.ok(stage.errors[0] instanceof ProtocolError);
    assert.deepEqual(taken(stage.states), ["waiting 1006 no hello"]);
  });

  test("a server that speaks another subprotocol is told of and given up", () => {
    const stage = new Stage();
    stage.accepts("");
    assert.ok(stage.errors[0] instanceof ProtocolError);
    assert.deepEqual(taken(stage.states), ["waiting 1006 wrong subprotocol"]);
  });

  test("a socket that cannot be made is a failed attempt", () => {
    let count = 0;
    const stage = new Stage({
      WebSocket: class {
        constructor() {
          count += 1;
          throw new Error("forbidden");
        }
      },
    });
    assert.equal(stage.connection.state, "waiting");
    stage.chances = [0.5];
    stage.passes(0);
    assert.equal(count, 2);
    assert.equal(stage.errors[0].cause.message, "forbidden");
    // Whoever is told may have enough of it.
    stage.connection.on("error", () => stage.connection.close());
    stage.connection.reconnect();
    assert.deepEqual(stage.states.slice(-2), ["waiting 1006", "closed 1000"]);
    assert.equal(stage.clock.timers, 0);
  });

  test("what cannot work is said at once", () => {
    assert.throws(() => connect("not an address"), TypeError);
    assert.throws(() => connect("ftp://throng.test"), TypeError);
    for (const option of [
      "connectTimeoutMs",
      "publishTimeoutMs",
      "publishesMax",
      "publishBytesMax",
      "publishesInFlightMax",
    ]) {
      for (const value of [0, -1, NaN, Infinity, "1"]) {
        const options = { WebSocket: class {}, [option]: value };
        assert.throws(() => connect("ws://throng.test", options), RangeError, `${option} ${value}`);
      }
    }
    const long = { WebSocket: class {}, keyPrefix: "k".repeat(49) };
    assert.throws(() => connect("ws://throng.test", long), RangeError);
  });

  test("without a WebSocket it says what to give it", (t) => {
    const { WebSocket } = globalThis;
    t.after(() => Object.assign(globalThis, { WebSocket }));
    globalThis.WebSocket = undefined;
    assert.throws(() => connect("ws://throng.test"), /options\.WebSocket/);
  });

  test("http addresses are taken for those of WebSockets", () => {
    const { connection } = new Stage();
    assert.equal(connection.url, "ws://throng.test/ws");
    const WebSocket = class extends EventTarget {
      close() {}
    };
    const secure = connect(new URL("https://throng.test/ws#part"), { WebSocket });
    assert.equal(secure.url, "wss://throng.test/ws");
    secure.close();
  });
});

describe("coming back", () => {
  test("the pause is a random part of a ceiling that doubles from 0.5 s to 30 s", () => {
    const stage = new Stage();
    const pauses = [];
    for (let attempt = 0; attempt < 9; attempt += 1) {
      stage.chances = [0.5];
      stage.ends();
      pauses.push(stage.connection.status.retryAt - stage.clock.now());
      stage.passes(pauses.at(-1) - 1);
      assert.equal(stage.sockets.length, attempt + 1);
      stage.passes(1);
      assert.equal(stage.sockets.length, attempt + 2);
    }
    assert.deepEqual(pauses, [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  });

  test("after a connection that lasted 10 s the ceiling is 0.5 s again, after a shorter one not", () => {
    const stage = new Stage();
    const pauseAfter = (lastedMs) => {
      stage.greets({ keepalive_ms: 0 }).passes(lastedMs);
      stage.chances = [0.5];
      stage.ends();
      const pause = stage.connection.status.retryAt - stage.clock.now();
      stage.passes(pause);
      return pause;
    };
    assert.deepEqual([9_999, 9_999, 10_000, 9_999].map(pauseAfter), [250, 500, 250, 500]);
  });

  test("time spent connecting does not count as lasting", () => {
    const stage = new Stage();
    stage.passes(14_000).ends();
    stage.passes(0).passes(14_000);
    stage.chances = [0.5];
    stage.ends();
    assert.equal(stage.connection.status.retryAt - stage.clock.now(), 500);
  });

  for (const code of [1001, 1005, 1006, 1009, 1011, 1012, 3000, 4100, 4102, 4199, 4200, 4999]) {
    test(`after ${code} it comes back`, () => {
      const stage = open().ends(code, "why");
      assert.deepEqual(taken(stage.states), ["open", `waiting ${code} why`]);
      stage.passes(0);
      assert.deepEqual(taken(stage.states), [`connecting ${code} why`]);
    });
  }

  for (const code of [1000, 1002, 1003, 1007, 1008, 1010, 4000, 4001, 4099]) {
    test(`after ${code} it does not come back`, () => {
      const stage = open().ends(code, "why");
      assert.deepEqual(taken(stage.states), ["open", `closed ${code} why`]);
      stage.passes(86_400_000);
      assert.equal(stage.sockets.length, 1);
      assert.equal(stage.clock.timers, 0);
    });
  }

  test("the pause in a close reason is added to the random one", () => {
    const stage = open();
    stage.chances = [0.5];
    stage.ends(4102, '{"reason":"slow_consumer","after_ms":1500}');
    assert.deepEqual(stage.connection.status, {
      state: "waiting",
      retryAt: stage.clock.now() + 1750,
      code: 4102,
      reason: "slow_consumer",
    });
  });

  test("the pause of a drain counts too, once, whatever the connection ends with", () => {
    for (const [code, reason] of [
      [4100, '{"reason":"drain","after_ms":1730}'],
      [4100, ""],
      [1006, ""],
    ]) {
      const stage = open().says('drain {"after_ms":1730}').ends(code, reason);
      assert.equal(stage.connection.status.retryAt, stage.clock.now() + 1730);
      // It was of that connection, and not of the next.
      stage.passes(1730).greets().ends();
      assert.equal(stage.connection.status.retryAt, stage.clock.now());
    }
  });

  test("a pause in a reason counts with codes from 4100 to 4199 only, and up to 5 minutes", () => {
    for (const [code, afterMs, pause] of [
      [1001, 1500, 0],
      [4200, 1500, 0],
      [4199, 1500, 1500],
      [4100, 1e12, 300_000],
      [4100, -5, 0],
      [4100, "soon", 0],
    ]) {
      const stage = open().ends(code, JSON.stringify({ reason: "x", after_ms: afterMs }));
      assert.equal(
        stage.connection.status.retryAt - stage.clock.now(),
        pause,
        `${code} ${afterMs}`,
      );
    }
  });

  test("a reason that is no JSON, or other JSON, is the reason itself", () => {
    for (const reason of ["server is stopping", "null", "[1]", '{"after_ms":1}', "{"]) {
      assert.equal(open().ends(1001, reason).connection.status.reason, reason);
    }
  });

  test("the network or the page coming back ends the wait", () => {
    for (const wake of [(page) => page.becomesOnline(), (page) => page.becomes("visible")]) {
      const stage = open();
      stage.chances = [0.9];
      stage.ends();
      stage.page.becomes("hidden");
      assert.equal(stage.sockets.length, 1);
      wake(stage.page);
      assert.equal(stage.connection.state, "connecting");
      // The pause that was under way is over, and not to begin a third attempt.
      stage.passes(450);
      assert.equal(stage.sockets.length, 2);
    }
  });

  test("but not the part of it that the server asked for", () => {
    const stage = open();
    stage.chances = [0.9];
    stage.ends(4100, '{"reason":"drain","after_ms":1000}');
    stage.passes(400).page.becomesOnline();
    assert.equal(stage.connection.status.retryAt, stage.clock.now() + 600);
    assert.deepEqual(taken(stage.states), ["open", "waiting 4100 drain", "waiting 4100 drain"]);
    stage.page.becomesOnline();
    assert.deepEqual(stage.states, []);
    stage.passes(599);
    assert.equal(stage.sockets.length, 1);
    stage.passes(1);
    assert.equal(stage.sockets.length, 2);
  });

  test("a page that comes back does not disturb an attempt, nor what was closed", () => {
    const stage = new Stage();
    stage.page.becomesOnline();
    assert.equal(stage.sockets.length, 1);
    stage.greets().ends(4001);
    stage.page.becomesOnline();
    stage.page.becomes("visible");
    assert.equal(stage.sockets.length, 1);
  });

  test("a person may end the wait, and what the server closed", () => {
    const stage = open();
    stage.chances = [0.9];
    stage.ends(4100, '{"reason":"drain","after_ms":1000}').connection.reconnect();
    assert.equal(stage.sockets.length, 2);
    stage.connection.reconnect();
    assert.equal(stage.sockets.length, 2);
    stage.greets().connection.reconnect();
    assert.equal(stage.sockets.length, 2);
    stage.ends(4001).connection.reconnect();
    assert.equal(stage.sockets.length, 3);
    assert.equal(stage.greets().connection.state, "open");
  });
});

describe("a connection that has died", () => {
  test("after keepalive_ms of silence the server is asked, and after 10 s more given up", () => {
    const stage = open({}, { keepalive_ms: 25_000 });
    stage.passes(24_999).hears();
    stage.passes(1).hears('ping {"id":0}');
    stage.passes(9_999);
    assert.equal(stage.connection.state, "open");
    stage.passes(1);
    assert.deepEqual(taken(stage.states), [
      "open",
      "waiting 1006 silent server",
      "connecting 1006 silent server",
    ]);
    assert.equal(stage.sockets[0].closedWith, 1000);
  });

  test("anything that is heard shows that it lives", () => {
    for (const line of ['pong {"id":0}', 'typing {"room":"elsewhere","data":1}', "no JSON {"]) {
      const stage = open().passes(25_000).hears('ping {"id":0}');
      stage.passes(9_999).says(line).passes(1);
      assert.equal(stage.connection.state, "open");
      // The silence counts from what was heard.
      stage.passes(24_998).hears();
      stage.passes(1).hears('ping {"id":0}');
    }
  });

  test("while something is heard nothing is asked", () => {
    const stage = open();
    for (let count = 0; count < 10; count += 1) stage.passes(24_000).says("pong {}");
    stage.hears();
  });

  test("a keepalive of 0 means that nothing is asked", () => {
    const stage = open({}, { keepalive_ms: 0 }).passes(86_400_000);
    stage.hears();
    assert.equal(stage.connection.state, "open");
  });

  test("a page that comes back asks at once, also without a keepalive", () => {
    const stage = open({}, { keepalive_ms: 0 });
    stage.page.becomes("hidden");
    stage.hears();
    stage.page.becomes("visible");
    stage.hears('ping {"id":0}');
    // Asked once is enough.
    stage.page.becomesOnline();
    stage.hears();
    stage.says('pong {"id":0}').passes(10_000);
    assert.equal(stage.connection.state, "open");
    stage.page.becomesOnline();
    stage.hears('ping {"id":0}').passes(10_000);
    assert.equal(stage.connection.state, "connecting");
  });

  test("a socket that can be ended is ended, not asked to close", () => {
    const stage = open();
    let isEnded = false;
    stage.socket.terminate = () => (isEnded = true);
    stage.passes(35_000);
    assert.ok(isEnded);
    assert.equal(stage.sockets[0].closedWith, null);
  });

  test("nothing is heard of a socket that was given up", () => {
    const stage = open().passes(35_000);
    const [dead] = stage.sockets;
    taken(stage.states);
    dead.raise("message", { data: 'hello {"connection":"dead"}' });
    dead.raise("close", { code: 4001, reason: "" });
    assert.deepEqual(stage.states, []);
    assert.equal(stage.greets().connection.hello.connection, "Xk3");
  });

  test("a clock that is set back delays a question by the keepalive and no more", () => {
    const stage = open();
    stage.clock.sleep(-3_600_000);
    stage.passes(25_000).hears();
    stage.passes(25_000).hears('ping {"id":0}');
  });
});

describe("close()", () => {
  test("stops for good: no timer, no attempt, nothing heard", () => {
    const stage = open();
    stage.connection.close();
    assert.equal(stage.socket.closedWith, 1000);
    assert.deepEqual(taken(stage.states), ["open", "closed 1000"]);
    assert.equal(stage.clock.timers, 0);

    assert.deepEqual(getEventListeners(stage.page.window, "online"), []);
    assert.deepEqual(getEventListeners(stage.page.document, "visibilitychange"), []);

    stage.ends(1006);
    stage.connection.close();
    stage.connection.reconnect();
    stage.page.becomesOnline();
    stage.page.becomes("visible");
    assert.deepEqual(stage.states, []);
    assert.equal(stage.sockets.length, 1);
  });

  test("stops an attempt and a wait as well", () => {
    const attempting = new Stage();
    attempting.connection.close();
    assert.equal(attempting.socket.closedWith, 1000);
    const waiting = open().ends();
    waiting.connection.close();
    for (const stage of [attempting, waiting]) {
      assert.equal(stage.clock.timers, 0);
      assert.equal(stage.connection.state, "closed");
      assert.equal(stage.sockets.length, 1);
    }
  });

  test("whatever is asked afterwards is refused", async () => {
    const { connection, errors } = open();
    const room = connection.room("tea");
    connection.close();
    await rejected(room.join(), ClosedError);
    await rejected(room.publish(1), ClosedError);
    await rejected(room.history({ last: 1 }), ClosedError);
    assert.equal(room.emit("typing"), false);
    await room.leave();
    assert.deepEqual(await room.publications().next(), { done: true, value: undefined });
    assert.deepEqual(connection.rooms, []);
    assert.deepEqual(errors, []);
  });

  test("may be called by any callback", async () => {
    const stage = new Stage();
    const { connection } = stage;
    const join = connection.room("tea").join();
    connection.on("state", ({ state }) => state === "open" && connection.close());
    stage.greets();
    assert.equal(connection.state, "closed");
    await rejected(join, ClosedError);
    assert.equal(stage.clock.timers, 0);
  });

  test("a callback that closes while the connection opens has the last word", () => {
    const stage = new Stage();
    const { connection } = stage;
    // Too large for the server that it will meet: it is told of while the connection opens.
    connection.room("tea").publish("x".repeat(100));
    connection.on("error", () => connection.close());
    stage.greets({ limits: { message_bytes: 50 } });
    assert.deepEqual(stage.states, ["closed 1000"]);
    assert.equal(stage.clock.timers, 0);
  });
});

describe("when the server closes for good", () => {
  test("everything that waits is settled, and a person may try again", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const join = room.join();
    const history = room.history({ last: 1 });
    const publications = room.publications();
    const next = publications.next();
    stage.ends(4001, "forbidden");
    for (const promise of [join, history, next]) {
      const error = await rejected(promise, ClosedError);
      assert.deepEqual([error.code, error.reason], [4001, "forbidden"]);
    }
    assert.deepEqual(await publications.next(), { done: true, value: undefined });
    await rejected(room.publish(1), ClosedError);
    await rejected(room.publications().next(), ClosedError);

    // The room is still wanted.
    await rejected(room.join(), ClosedError);
    assert.deepEqual(stage.connection.rooms, ["tea"]);
    stage.connection.reconnect();
    stage.greets().hears('join {"id":3,"room":"tea"}');
    await isPending(room.join());
  });

  test("a callback that is told of it may connect again", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const lost = room.publish(1);
    let again;
    stage.connection.on("error", () => {
      stage.connection.reconnect();
      again ??= room.publish(2);
    });
    stage.hears('msg {"id":1,"to":"tea","msg":1,"key":"k-1"}').ends(4001);
    assert.equal(stage.connection.state, "connecting");
    assert.equal((await lost.catch((error) => error)).name, "UnknownOutcomeError");
    stage.greets().hears('msg {"id":2,"to":"tea","msg":2,"key":"k-2"}');
    await isPending(again);
  });
});

describe("callbacks", () => {
  test("one that throws is reported, and harms nothing else", (t) => {
    const reported = [];
    globalThis.reportError = (error) => reported.push(error.message);
    t.after(() => delete globalThis.reportError);
    const stage = new Stage();
    stage.connection.on("state", () => {
      throw new Error("mine");
    });
    const seen = [];
    stage.connection.on("state", ({ state }) => seen.push(state));
    stage.greets().ends(4001);
    assert.deepEqual(reported, ["mine", "mine"]);
    assert.deepEqual(seen, ["open", "closed"]);
  });

  test("where there is no reportError, it is thrown where nobody is in between", (t) => {
    const thrown = [];
    t.mock.method(globalThis, "queueMicrotask", (callback) => thrown.push(callback));
    assert.equal(globalThis.reportError, undefined);
    const stage = new Stage();
    stage.connection.on("state", () => {
      throw new Error("mine");
    });
    stage.greets();
    assert.equal(thrown.length, 1);
    assert.throws(thrown[0], /mine/);
  });

  test("one that was taken away is not called, the same given twice is called twice", () => {
    const stage = new Stage();
    const seen = [];
    const callback = ({ state }) => seen.push(state);
    const off = stage.connection.on("state", callback);
    stage.connection.on("state", callback);
    stage.greets();
    off();
    off();
    stage.ends(4001);
    assert.deepEqual(seen, ["open", "open", "closed"]);
  });

  test("callbacks may come and go while they are called", () => {
    const { connection } = new Stage();
    const seen = [];
    connection.on("state", () => {
      seen.push("first");
      off();
      connection.on("state", () => seen.push("later"));
    });
    const off = connection.on("state", () => seen.push("taken away"));
    connection.close();
    assert.deepEqual(seen, ["first"]);
  });

  test("an event that there is not is a mistake", () => {
    const { connection } = new Stage();
    assert.throws(() => connection.on("close", () => {}), TypeError);
    assert.throws(() => connection.room("tea").on("msg", () => {}), TypeError);
    assert.throws(() => connection.room(""), TypeError);
  });
});

describe("what the server's application sends", () => {
  test("is told of if it is of no room", () => {
    const stage = open();
    const seen = [];
    stage.connection.on("event", (event) => seen.push(event));
    stage.says('news {"data":[1]}', 'tick {"data":null,"more":1}', 'typing {"room":"tea","data":1}');
    assert.deepEqual(seen, [
      { event: "news", data: [1] },
      { event: "tick", data: null },
    ]);
    assert.deepEqual(stage.errors, []);
  });
});

describe("what a server should not say", () => {
  test("is told of and not used", () => {
    const stage = open();
    stage.says("msg {", "gap {}", 'msg {"room":5}');
    stage.socket.raise("message", { data: new ArrayBuffer(2) });
    assert.deepEqual(
      stage.errors.map((error) => [error.name, error.message]),
      [
        ["ProtocolError", "the server sent data that is not JSON"],
        ["ProtocolError", 'the server sent a "gap" without a room'],
        ["ProtocolError", 'the server sent a "msg" without a room'],
        ["ProtocolError", "the server sent a binary message"],
      ],
    );
    assert.equal(stage.connection.state, "open");
  });

  test("events of later versions, second greetings and answers that nobody asked for are ignored", () => {
    const stage = open().says(
      'presence {"room":"tea"}',
      "throng-news 5",
      "news",
      'news {"of":"a later version"}',
      'hello {"connection":"other"}',
      'ack {"id":99}',
      'joined {"id":"1"}',
    );
    assert.deepEqual(stage.errors, []);
    assert.equal(stage.connection.hello.connection, "Xk3");
  });

  test("an error that answers no question is told of", () => {
    const stage = open();
    stage.says('error {"code":"bad_message","message":"no name"}', "error 5");
    const [error, empty] = stage.errors;
    assert.deepEqual(
      [error.name, error.code, error.message, error.event, error.room, error.retryAfterMs],
      ["RefusedError", "bad_message", "no name", null, null, null],
    );
    assert.equal(empty.code, "");
  });
});
