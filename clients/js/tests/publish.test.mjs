/**
 * @file Publications: acknowledged, sent again, in order, bounded.
 */

import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import {
  ClosedError,
  ProtocolError,
  QueueFullError,
  RefusedError,
  UnknownOutcomeError,
} from "@throng/client";
import { Stage, isPending, open, outcome, rejected, resolved } from "./support/stage.mjs";

/** The line that publishes `data` to `room`. */
const msg = (id, data, key, room = "tea") =>
  `msg {"id":${id},"to":"${room}","msg":${JSON.stringify(data)},"key":"${key}"}`;
const ack = (id, offset = id) =>
  `ack {"id":${id},"room":"tea","position":{"epoch":"e1","offset":${offset}}}`;
const overloaded = (id, pauseMs) =>
  `error {"id":${id},"event":"msg","room":"tea","code":"overloaded","message":"busy","retry_after_ms":${pauseMs}}`;

function publisher(options) {
  const stage = open(options);
  return { stage, room: stage.connection.room("tea") };
}

describe("publishing", () => {
  test("resolves with the acknowledgement", async () => {
    const { stage, room } = publisher();
    const promise = room.publish({ text: "hi" });
    stage.hears(msg(1, { text: "hi" }, "k-1"));
    await isPending(promise);
    assert.equal(stage.connection.unacknowledged, 1);
    stage.says(ack(1, 58));
    assert.deepEqual(await resolved(promise), {
      room: "tea",
      key: "k-1",
      position: { epoch: "e1", offset: 58 },
      duplicate: false,
    });
    assert.equal(stage.connection.unacknowledged, 0);
    assert.equal(stage.clock.timers, 1, "the keepalive's, and none of the publication");
  });

  test("to a room that nobody is in has no position", async () => {
    const { stage, room } = publisher();
    const promise = room.publish(1);
    stage.says('ack {"id":1,"room":"tea"}');
    assert.equal((await resolved(promise)).position, null);
  });

  test("takes the data as it is at the call", () => {
    const { stage, room } = publisher();
    stage.ends();
    const data = { text: "before" };
    room.publish(data);
    data.text = "after";
    stage
      .passes(0)
      .greets()
      .hears(msg(1, { text: "before" }, "k-1"));
  });

  test("takes a key of the application's", async () => {
    const { stage, room } = publisher();
    const promise = room.publish(null, { key: "mine" });
    stage.hears(msg(1, null, "mine"));
    stage.says('ack {"id":1,"room":"tea","position":{"epoch":"e1","offset":4},"duplicate":true}');
    const { key, duplicate } = await resolved(promise);
    assert.deepEqual([key, duplicate], ["mine", true]);
  });

  test("keys begin with something random unless told otherwise", () => {
    const prefixes = new Set();
    for (let count = 0; count < 100; count += 1) {
      const { stage, room } = publisher({ keyPrefix: undefined });
      room.publish(1);
      const { key } = JSON.parse(stage.socket.sent[0].slice(4));
      assert.match(key, /^[0-9a-z]{6,21}-1$/);
      prefixes.add(key);
    }
    assert.equal(prefixes.size, 100);
  });

  test("what cannot be published is a mistake, and seen as one", async () => {
    const { stage, room } = publisher();
    const circle = {};
    circle.circle = circle;
    for (const data of [undefined, () => {}, circle, 1n]) {
      await assert.rejects(room.publish(data), TypeError);
    }
    for (const key of ["", "x".repeat(65), "é".repeat(33)]) {
      await assert.rejects(room.publish(1, { key }), TypeError);
    }
    stage.hears();
    assert.equal(stage.connection.unacknowledged, 0);
  });

  test("an answer that is none leaves the outcome unknown", async () => {
    const { stage, room } = publisher();
    const promise = room.publish(1);
    stage.says('left {"id":1}');
    const error = await rejected(promise, UnknownOutcomeError);
    assert.ok(error.cause instanceof ProtocolError);
  });
});

describe("order", () => {
  test("a room's next one is sent when the one before is settled; rooms do not wait for each other", async () => {
    const { stage, room } = publisher();
    const other = stage.connection.room("cake");
    const all = [room.publish(1), room.publish(2), other.publish(3), room.publish(4)];
    stage.hears(msg(1, 1, "k-1"), msg(2, 3, "k-3", "cake"));
    stage.says(ack(1)).hears(msg(3, 2, "k-2"));
    // One that is refused is settled.
    stage.says('error {"id":3,"event":"msg","code":"too_large","message":"no"}');
    stage.hears(msg(4, 4, "k-4"));
    stage.says(ack(4), ack(2));
    assert.deepEqual(
      (await Promise.all(all.map(outcome))).map(([what]) => what),
      ["resolved", "rejected", "resolved", "resolved"],
    );
  });

  test("several may be under way if the application wishes", () => {
    const { stage, room } = publisher({ publishesInFlightMax: 2 });
    for (const data of [1, 2, 3, 4]) room.publish(data);
    stage.hears(msg(1, 1, "k-1"), msg(2, 2, "k-2"));
    // Acknowledgements of one room come in order, but nothing here depends on that.
    stage.says(ack(2)).hears(msg(3, 3, "k-3"));
    stage.says(ack(1)).hears(msg(4, 4, "k-4"));
    // All that were under way are sent again, in order, with their keys.
    stage.comesBack().hears(msg(5, 3, "k-3"), msg(6, 4, "k-4"));
  });
});

describe("a lost connection", () => {
  test("what was not acknowledged is sent again with its key, then what waits behind it", async () => {
    const { stage, room } = publisher();
    const all = [room.publish("a"), room.publish("b")];
    stage
      .hears(msg(1, "a", "k-1"))
      .comesBack()
      .hears(msg(2, "a", "k-1"));
    stage
      .says('ack {"id":2,"room":"tea","position":{"epoch":"e1","offset":7},"duplicate":true}')
      .hears(msg(3, "b", "k-2"));
    stage.says(ack(3, 8));
    const acks = await Promise.all(all.map(resolved));
    assert.deepEqual(
      acks.map(({ position, duplicate }) => [position.offset, duplicate]),
      [
        [7, true],
        [8, false],
      ],
    );
  });

  test("what is published while away waits and goes out in order", () => {
    const stage = new Stage();
    const room = stage.connection.room("tea");
    room.publish(1);
    stage.ends();
    room.publish(2);
    stage.passes(0);
    stage.connection.room("cake").publish(3);
    stage.greets().hears(msg(1, 1, "k-1"), msg(2, 3, "k-3", "cake"));
    stage.says(ack(1)).hears(msg(3, 2, "k-2"));
  });

  test("what never was sent may wait as long as it takes", async () => {
    const stage = new Stage();
    const promise = stage.connection.room("tea").publish(1);
    stage.chances = Array(10_000).fill(0.99);
    stage.passes(3_600_000);
    await isPending(promise);
    stage.connection.reconnect();
    stage.greets().hears(msg(1, 1, "k-1"));
  });

  test("a socket that is closing takes nothing; it goes out on the next", () => {
    const { stage, room } = publisher();
    stage.socket.readyState = 2;
    room.publish(1);
    room.join();
    stage
      .hears()
      .comesBack()
      .hears('join {"id":1,"room":"tea"}', msg(2, 1, "k-1"));
  });
});

describe("the time that a publication may take", () => {
  test("after that its outcome is unknown, and the next is sent", async () => {
    const { stage, room } = publisher({ publishTimeoutMs: 5_000 });
    const promise = room.publish(1);
    room.publish(2);
    stage.passes(4_999);
    await isPending(promise);
    stage.hears(msg(1, 1, "k-1")).passes(1);
    const error = await rejected(promise, UnknownOutcomeError);
    assert.deepEqual([error.room, error.key], ["tea", "k-1"]);
    assert.deepEqual(stage.errors, [error]);
    stage.hears(msg(2, 2, "k-2"));
    // The answer that comes too late is nobody's.
    room.publish(3);
    stage.says(overloaded(1, 60_000), ack(2));
    stage.hears(msg(3, 3, "k-3"));
  });

  test("it is half of five minutes unless set, and counts from the first sending", async () => {
    const { stage, room } = publisher();
    stage.ends();
    stage.chances = [0.5];
    const promise = room.publish(1);
    stage.passes(60_000);
    stage.greets({ keepalive_ms: 0 }).passes(100_000);
    stage.comesBack({ keepalive_ms: 0 }).passes(49_999);
    await isPending(promise);
    stage.passes(1);
    await rejected(promise, UnknownOutcomeError);
  });

  test("it goes on while the connection is away", async () => {
    const { stage, room } = publisher({ publishTimeoutMs: 5_000 });
    const promise = room.publish(1);
    stage.chances = [0.9];
    stage.ends(4100, '{"reason":"drain","after_ms":60000}').passes(5_000);
    await rejected(promise, UnknownOutcomeError);
    stage.passes(60_000).greets().hears();
  });

  test("a machine that slept does not repeat what is too old, and does send what never was", async () => {
    const { stage, room } = publisher({ publishTimeoutMs: 5_000 });
    const old = room.publish("old");
    const fresh = room.publish("new");
    stage.hears(msg(1, "old", "k-1")).ends();
    stage.clock.sleep(5_000);
    // Awake again: the network is there before any timer has run.
    stage.page.becomesOnline();
    stage.greets().hears(msg(2, "new", "k-2"));
    await rejected(old, UnknownOutcomeError);
    await isPending(fresh);
  });
});

describe("a server that is too busy", () => {
  test("is sent the same again after its pause, and what is behind it waits", async () => {
    const { stage, room } = publisher();
    const all = [room.publish(1), room.publish(2)];
    stage.hears(msg(1, 1, "k-1")).says(overloaded(1, 1500));
    stage.passes(1499).hears();
    stage.passes(1).hears(msg(2, 1, "k-1"));
    stage
      .says(ack(2))
      .hears(msg(3, 2, "k-2"))
      .says(ack(3));
    await Promise.all(all.map(resolved));
    assert.deepEqual(stage.errors, []);
  });

  test("other rooms go on, and what is published meanwhile stays in its place", () => {
    const { stage, room } = publisher();
    room.publish(1);
    stage.hears(msg(1, 1, "k-1")).says(overloaded(1, 1500));
    room.publish(2);
    stage.connection.room("cake").publish(3);
    stage
      .hears(msg(2, 3, "k-3", "cake"))
      .passes(1500)
      .hears(msg(3, 1, "k-1"));
  });

  test("its pause outlives the connection", () => {
    const { stage, room } = publisher();
    room.publish(1);
    stage
      .hears(msg(1, 1, "k-1"))
      .says(overloaded(1, 1500))
      .comesBack()
      .hears();
    stage.passes(1500).hears(msg(2, 1, "k-1"));
  });

  test("for too long: the refusal is the outcome, since nothing was delivered", async () => {
    const { stage, room } = publisher({ publishTimeoutMs: 5_000 });
    const promise = room.publish(1);
    for (let id = 1; id <= 5; id += 1) {
      stage
        .hears(msg(id, 1, "k-1"))
        .says(overloaded(id, 1000))
        .passes(1000);
    }
    const error = await rejected(promise, RefusedError);
    assert.deepEqual([error.code, error.retryAfterMs], ["overloaded", 1000]);
    assert.deepEqual(stage.errors, [error]);
    assert.equal(stage.connection.unacknowledged, 0);
  });

  test("for too long, after an answer was lost: the outcome is unknown", async () => {
    const { stage, room } = publisher({ publishTimeoutMs: 5_000 });
    const promise = room.publish(1);
    stage.comesBack().says(overloaded(2, 1000), overloaded(1, 1000));
    stage
      .hears(msg(2, 1, "k-1"))
      .says(overloaded(2, 10_000))
      .passes(5_000);
    await rejected(promise, UnknownOutcomeError);
  });
});

describe("refusals", () => {
  test("without a pause reject, are told of, and leave the order as it is", async () => {
    const { stage, room } = publisher();
    const promise = room.publish(1);
    stage.says(
      'error {"id":1,"event":"msg","room":"tea","code":"too_large","message":"4 KiB here"}',
    );
    const error = await rejected(promise, RefusedError);
    assert.deepEqual([error.code, error.message, error.room], ["too_large", "4 KiB here", "tea"]);
    assert.deepEqual(stage.errors, [error]);
  });

  test("a message over the server's limit is not sent, to the byte", async () => {
    // In UTF-8: 1, 2, 3 and 4 bytes; the last is two units of UTF-16.
    for (const letter of ["a", "é", "€", "😀"]) {
      const data = letter.repeat(10);
      const bytes = new TextEncoder().encode(msg(1, data, "k-1")).length;
      const fits = publisher();
      fits.stage.comesBack({ limits: { message_bytes: bytes } });
      fits.room.publish(data);
      fits.stage.hears(msg(1, data, "k-1"));

      const not = publisher();
      not.stage.comesBack({ limits: { message_bytes: bytes - 1 } });
      const error = await rejected(not.room.publish(data), RefusedError);
      assert.deepEqual([error.code, error.event, error.room], ["too_large", "msg", "tea"]);
      assert.deepEqual(not.stage.errors, [error]);
      not.stage.hears();
    }
  });

  test("a server that takes less than the one before is not sent more", async () => {
    const { stage, room } = publisher();
    const large = room.publish("x".repeat(100));
    const small = room.publish("y");
    stage.comesBack({ limits: { message_bytes: 100 } }).hears(msg(3, "y", "k-2"));
    // The one before may have taken it.
    const { cause } = await rejected(large, UnknownOutcomeError);
    assert.equal(cause.code, "too_large");
    await isPending(small);
  });

  test("what waited for a connection and is too large for it was not delivered", async () => {
    const stage = new Stage();
    const promise = stage.connection.room("tea").publish("x".repeat(100));
    stage.greets({ limits: { message_bytes: 100 } }).hears();
    assert.equal((await rejected(promise, RefusedError)).code, "too_large");
  });

  test("after a lost answer do not say that nothing was delivered", async () => {
    const { stage, room } = publisher();
    const promise = room.publish(1);
    stage.comesBack().says('error {"id":2,"event":"msg","code":"too_large","message":"no"}');
    const { cause } = await rejected(promise, UnknownOutcomeError);
    assert.equal(cause.code, "too_large");
  });
});

describe("bounds", () => {
  test("the publication beyond the count is rejected at once, and one fits again when one is settled", async () => {
    const { stage, room } = publisher({ publishesMax: 2 });
    const all = [room.publish(1), stage.connection.room("cake").publish(2)];
    const error = await rejected(room.publish(3), QueueFullError);
    assert.deepEqual([error.room, error.limit, error.max], ["tea", "publishesMax", 2]);
    assert.deepEqual(stage.errors, [error]);
    stage.says(ack(1));
    await resolved(all[0]);
    await isPending(room.publish(4));
    await rejected(room.publish(5), QueueFullError);
  });

  test("the same with bytes, of JSON in UTF-8", async () => {
    const { stage, room } = publisher({ publishBytesMax: 10 });
    // Two quotes and two bytes each.
    await isPending(room.publish("é"));
    await isPending(room.publish("é"));
    const error = await rejected(room.publish("é"), QueueFullError);
    assert.deepEqual([error.limit, error.max], ["publishBytesMax", 10]);
    await isPending(room.publish(1));
    await isPending(room.publish(2));
    await rejected(room.publish(3), QueueFullError);
    stage.says(ack(1));
    await isPending(room.publish("é"));
    await rejected(room.publish(4), QueueFullError);
  });

  test("the default is 1000 publications and 1 MiB", async () => {
    const { room } = publisher();
    for (let count = 0; count < 1000; count += 1) room.publish(1);
    await rejected(room.publish(1), QueueFullError);
    const large = publisher({}).stage.ends().connection.room("tea");
    // With its quotes 64 KiB; sixteen of them are 1 MiB.
    for (let count = 0; count < 16; count += 1) await isPending(large.publish("x".repeat(65_534)));
    await rejected(large.publish(1), QueueFullError);
  });
});

describe("withdrawing", () => {
  test("what was not sent never is, and what is behind it goes on", async () => {
    const { stage, room } = publisher();
    stage.ends();
    const controller = new AbortController();
    const withdrawn = room.publish(1, { signal: controller.signal });
    room.publish(2);
    controller.abort(new Error("changed my mind"));
    assert.equal((await withdrawn.catch((error) => error)).message, "changed my mind");
    stage
      .passes(0)
      .greets()
      .hears(msg(1, 2, "k-2"));
    assert.deepEqual(stage.errors, []);
  });

  test("what was sent is not repeated, its outcome is unknown, and the next is sent", async () => {
    const { stage, room } = publisher();
    const controller = new AbortController();
    const withdrawn = room.publish(1, { signal: controller.signal });
    room.publish(2);
    controller.abort("enough");
    const error = await rejected(withdrawn, UnknownOutcomeError);
    assert.equal(error.cause, "enough");
    stage
      .hears(msg(1, 1, "k-1"), msg(2, 2, "k-2"))
      .says(ack(1), ack(2))
      .comesBack()
      .hears();
  });

  test("what the server put off was not delivered", async () => {
    const { stage, room } = publisher();
    const controller = new AbortController();
    const withdrawn = room.publish(1, { signal: controller.signal });
    stage.says(overloaded(1, 1500));
    controller.abort("enough");
    assert.deepEqual(await outcome(withdrawn), ["rejected", "enough"]);
    assert.equal(stage.clock.timers, 1, "the keepalive's");
    stage.passes(1500).hears(msg(1, 1, "k-1"));
    assert.equal(stage.connection.unacknowledged, 0);
  });

  test("before the call sends nothing, after the end does nothing", async () => {
    const { stage, room } = publisher();
    const gone = room.publish(1, { signal: AbortSignal.abort("gone") });
    assert.deepEqual(await outcome(gone), ["rejected", "gone"]);
    stage.hears();
    const controller = new AbortController();
    const promise = room.publish(2, { signal: controller.signal });
    assert.equal(getEventListeners(controller.signal, "abort").length, 1);
    stage.says(ack(1));
    assert.equal(getEventListeners(controller.signal, "abort").length, 0);
    controller.abort();
    assert.equal((await resolved(promise)).position.offset, 1);
  });
});

describe("the end of the connection", () => {
  test("close() rejects: unknown what was under way, not sent what was not", async () => {
    const { stage, room } = publisher();
    const [sent, unsent] = [room.publish(1), room.publish(2)];
    stage.connection.close();
    const unknown = await rejected(sent, UnknownOutcomeError);
    assert.ok(unknown.cause instanceof ClosedError);
    await rejected(unsent, ClosedError);
    // The application wished it so, and needs not to be told.
    assert.deepEqual(stage.errors, []);
    assert.equal(stage.clock.timers, 0);
    assert.equal(stage.connection.unacknowledged, 0);
  });

  test("while away it is the same: what was sent once is unknown", async () => {
    const { stage, room } = publisher();
    const [sent, unsent] = [room.publish(1), room.publish(2)];
    stage.ends().connection.close();
    await rejected(sent, UnknownOutcomeError);
    await rejected(unsent, ClosedError);
  });

  test("a server that closes for good rejects them too, and that is told", async () => {
    const { stage, room } = publisher();
    const all = [room.publish(1), room.publish(2)];
    stage.ends(4001);
    const errors = [
      await rejected(all[0], UnknownOutcomeError),
      await rejected(all[1], ClosedError),
    ];
    assert.deepEqual(stage.errors, errors);
    assert.equal(stage.clock.timers, 0);
  });

  test("nobody need look at a promise", async () => {
    const { stage, room } = publisher({ publishesMax: 2 });
    const unhandled = [];
    const note = (error) => unhandled.push(error);
    process.on("unhandledRejection", note);
    room.publish(1);
    room.publish(2);
    room.publish(3);
    room.join();
    room.history({ last: 1 });
    stage.connection.close();
    room.publish(4);
    // Those of a turn are told at its end.
    await new Promise((resolve) => setTimeout(resolve, 0));
    process.off("unhandledRejection", note);
    assert.deepEqual(unhandled, []);
  });
});
