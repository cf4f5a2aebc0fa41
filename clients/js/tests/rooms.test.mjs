/**
 * @file Rooms: joining, coming back to them, and what arrives in them.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ClosedError, LeftError, ProtocolError, RefusedError } from "@throng/client";
import { Stage, diary, isPending, open, rejected, resolved, taken } from "./support/stage.mjs";

/** A stage whose client is in `tea` at offset 2 of epoch `e1`, and the room's diary. */
function inTea(options) {
  const stage = open(options);
  const room = stage.connection.room("tea");
  const lines = diary(room);
  room.join();
  stage.hears('join {"id":1,"room":"tea"}');
  stage.says('joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":2}}');
  assert.deepEqual(taken(lines), ["joined"]);
  return { stage, room, lines };
}

const msg = (offset, data = offset) =>
  `msg ${JSON.stringify({ room: "tea", offset, from: "Ab1", at: 1732270000000, msg: data })}`;

describe("joining", () => {
  test("from now on: what comes afterwards is heard", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const lines = diary(room);
    const join = room.join();
    stage.hears('join {"id":1,"room":"tea"}');
    await isPending(join);
    assert.deepEqual([room.isJoined, room.position], [false, null]);

    stage.says('joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":2}}', msg(3));
    assert.deepEqual(await resolved(join), {
      room: "tea",
      position: { epoch: "e1", offset: 2 },
      first: null,
      recovered: null,
      again: false,
    });
    assert.deepEqual(lines, ["joined", "3 3"]);
    assert.deepEqual([room.isJoined, room.position], [true, { epoch: "e1", offset: 3 }]);
  });

  test("a publication says all that the server said of it", () => {
    const { stage, room } = inTea();
    const seen = [];
    room.on("publication", (publication) => seen.push(publication));
    stage.says(msg(3, { text: "hi" }), 'msg {"room":"tea","offset":4,"msg":null}');
    assert.deepEqual(seen, [
      {
        room: "tea",
        epoch: "e1",
        offset: 3,
        from: "Ab1",
        at: 1732270000000,
        data: { text: "hi" },
        gap: null,
      },
      { room: "tea", epoch: "e1", offset: 4, from: null, at: null, data: null, gap: null },
    ]);
  });

  test("with the last few", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const lines = diary(room);
    const join = room.join({ last: 2 });
    stage.hears('join {"id":1,"room":"tea","last":2}');
    stage.says(
      'joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":9},"first":8}',
      ...[8, 9, 10].map((offset) => msg(offset)),
    );
    assert.equal((await resolved(join)).first, 8);
    assert.deepEqual(lines, ["joined", "8 8", "9 9", "10 10"]);
  });

  test("with the last few of a room that is empty", () => {
    const stage = open();
    const lines = diary(stage.connection.room("tea"));
    stage.connection.room("tea").join({ last: 50 });
    stage.says(
      'joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":0},"first":1}',
      msg(1),
    );
    assert.deepEqual(lines, ["joined", "1 1"]);
  });

  test("since a position that was kept, such as a publication", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const lines = diary(room);
    const join = room.join({ since: { epoch: "e1", offset: 7, room: "tea", data: "kept" } });
    stage.hears('join {"id":1,"room":"tea","since":{"epoch":"e1","offset":7}}');
    stage.says(
      'joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":8},"recovered":true,"first":8}',
      msg(8),
    );
    const { recovered, first } = await resolved(join);
    assert.deepEqual([recovered, first], [true, 8]);
    assert.deepEqual(lines, ["joined", "8 8"]);
  });

  test("before there is a connection, and while it is away", async () => {
    const stage = new Stage();
    const join = stage.connection.room("tea").join({ last: 5 });
    stage.greets().hears('join {"id":1,"room":"tea","last":5}');
    stage.comesBack().hears('join {"id":2,"room":"tea","last":5}');
    // An answer to the question of another connection is none.
    stage.says('joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":0},"first":1}');
    await isPending(join);
    stage.says('joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":0},"first":1}');
    await resolved(join);
  });

  test("twice is joining once", async () => {
    const { stage, room } = inTea();
    assert.equal((await resolved(room.join({ last: 5 }))).position.offset, 2);
    stage.hears();

    const other = stage.connection.room("other");
    const joins = [other.join(), stage.connection.room("other").join()];
    stage.hears('join {"id":2,"room":"other"}');
    stage.says('joined {"id":2,"room":"other","position":{"epoch":"e1","offset":0}}');
    for (const join of joins) assert.equal((await resolved(join)).room, "other");
  });

  test("a refusal rejects, is told of, and the room is no longer wanted", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const lines = diary(room);
    const join = room.join();
    stage.says(
      'error {"id":1,"event":"join","room":"tea","code":"too_many_rooms","message":"128 is all"}',
    );
    const error = await rejected(join, RefusedError);
    assert.deepEqual(
      [error.code, error.event, error.room, error.message, error.retryAfterMs],
      ["too_many_rooms", "join", "tea", "128 is all", null],
    );
    assert.deepEqual(stage.errors, [error]);
    assert.deepEqual(lines, ["refused too_many_rooms"]);
    assert.deepEqual(stage.connection.rooms, []);
    stage.hears('join {"id":1,"room":"tea"}').comesBack().hears();
  });

  test("a server that is too busy is asked again after its pause", async () => {
    const stage = open();
    const join = stage.connection.room("tea").join({ last: 3 });
    stage.hears('join {"id":1,"room":"tea","last":3}');
    stage.says(
      'error {"id":1,"event":"join","room":"tea","code":"overloaded","retry_after_ms":1500}',
    );
    stage.passes(1499).hears();
    stage.passes(1).hears('join {"id":2,"room":"tea","last":3}');
    stage.says('joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":0},"first":1}');
    await resolved(join);
    assert.deepEqual(stage.errors, []);
  });

  test("a pause of nothing is still a pause, and one without end ends", () => {
    const stage = open();
    stage.connection.room("tea").join();
    stage.hears('join {"id":1,"room":"tea"}');
    stage.says('error {"id":1,"code":"overloaded","retry_after_ms":0}');
    stage.passes(99).hears();
    stage.passes(1).hears('join {"id":2,"room":"tea"}');
    stage.says('error {"id":2,"code":"overloaded","retry_after_ms":1e300}');
    for (let count = 0; count < 30; count += 1) stage.passes(10_000).says("pong {}");
    stage.hears('join {"id":3,"room":"tea"}');
  });

  test("what cannot be asked is a mistake", async () => {
    const { connection } = open();
    const room = connection.room("tea");
    for (const options of [
      { since: { epoch: "e1", offset: 1 }, last: 1 },
      { since: { epoch: "", offset: 1 } },
      { since: { epoch: "e1", offset: -1 } },
      { since: 5 },
      { last: 0 },
      { last: 1.5 },
    ]) {
      await assert.rejects(room.join(options), TypeError);
    }
    assert.deepEqual(connection.rooms, []);
  });

  test("an answer that is none rejects", async () => {
    const position = '"position":{"epoch":"e1","offset":5}';
    for (const answer of [
      'joined {"id":1}',
      'left {"id":1,"room":"tea"}',
      // Nothing about what is replayed, or nonsense: 7 is not there yet, and 0 never is.
      `joined {"id":1,${position}}`,
      `joined {"id":1,${position},"first":7}`,
      `joined {"id":1,${position},"first":0}`,
    ]) {
      const stage = open();
      const join = stage.connection.room("tea").join({ last: 5 });
      stage.says(answer);
      await rejected(join, ProtocolError);
      assert.equal(stage.errors.length, 1);
      assert.deepEqual(stage.connection.rooms, []);
    }
  });
});

describe("leaving", () => {
  test("ends the membership: what is under way is not seen", async () => {
    const { stage, room, lines } = inTea();
    const left = room.leave();
    stage.hears('leave {"id":2,"room":"tea"}');
    stage.says(msg(3), 'typing {"room":"tea","from":"Ab1"}', 'gap {"room":"tea","from":4,"to":5}');
    assert.deepEqual(lines, []);
    assert.deepEqual([room.isJoined, room.position], [false, null]);
    await isPending(left);
    stage.says('left {"id":2,"room":"tea"}');
    await resolved(left);
    stage.comesBack().hears();
  });

  test("before the answer to the join rejects that", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const lines = diary(room);
    const join = room.join();
    const left = room.leave();
    assert.equal((await rejected(join, LeftError)).room, "tea");
    stage.hears('join {"id":1,"room":"tea"}', 'leave {"id":2,"room":"tea"}');
    stage.says(
      'joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":2}}',
      msg(3),
      'left {"id":2,"room":"tea"}',
    );
    await resolved(left);
    assert.deepEqual(lines, []);
    assert.deepEqual(stage.errors, []);
  });

  test("and joining again sees the new membership only", () => {
    const { stage, room, lines } = inTea();
    room.leave();
    room.join({ last: 1 });
    stage.hears('leave {"id":2,"room":"tea"}', 'join {"id":3,"room":"tea","last":1}');
    // 4 is still of the old membership, and comes again in the new one.
    stage.says(msg(3), msg(4), 'left {"id":2,"room":"tea"}');
    stage.says(
      'joined {"id":3,"room":"tea","position":{"epoch":"e1","offset":4},"first":4}',
      msg(4),
      msg(5),
    );
    assert.deepEqual(lines, ["joined", "4 4", "5 5"]);
  });

  test("without a connection needs no answer, and a lost connection is one", async () => {
    const away = inTea();
    away.stage.ends();
    await resolved(away.room.leave());
    const lost = inTea();
    const left = lost.room.leave();
    lost.stage.ends();
    await resolved(left);
    const { connection } = open();
    await resolved(connection.room("never joined").leave());
    for (const { stage } of [away, lost]) {
      stage.passes(0).greets().hears();
    }
  });

  test("by a callback stops what was to come", () => {
    const { stage, room, lines } = inTea();
    room.on("gap", () => room.leave());
    stage.says(msg(5));
    assert.deepEqual(lines, ["gap jump 3..4"]);
  });

  test("by a callback, between two gaps, leaves nothing behind for the next membership", () => {
    const { stage, room, lines } = inTea();
    const off = room.on("gap", () => room.leave());
    stage.says('gap {"room":"tea","from":5,"to":6}');
    assert.deepEqual(taken(lines), ["gap jump 3..4"]);
    off();
    const gaps = [];
    room.on("publication", ({ gap }) => gaps.push(gap));
    room.join();
    stage.says('joined {"id":3,"position":{"epoch":"e1","offset":6}}', msg(7));
    assert.deepEqual(gaps, [null]);
  });

  test("when it has begun, by a callback, is told of nothing more", () => {
    const { stage, room, lines } = inTea();
    stage.comesBack();
    room.on("joined", () => room.leave());
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e9","offset":9},"recovered":false,"first":8}',
      msg(8),
    );
    assert.deepEqual(lines, ["joined again"]);
  });
});

describe("coming back", () => {
  test("every wanted room is joined again, from where it was, before anything is published", () => {
    const { stage, room, lines } = inTea();
    stage.connection.room("cake").join({ last: 4 });
    stage.connection.room("left").join();
    stage.connection.room("left").leave();
    stage.says(msg(3)).ends();
    assert.equal(room.isJoined, false);
    room.publish("away");
    stage.passes(0).greets();
    stage.hears(
      'join {"id":5,"room":"tea","since":{"epoch":"e1","offset":3}}',
      'join {"id":6,"room":"cake","last":4}',
      'msg {"id":7,"to":"tea","msg":"away","key":"k-1"}',
    );
    stage.says(
      'joined {"id":5,"room":"tea","position":{"epoch":"e1","offset":5},"recovered":true,"first":4}',
      msg(4),
      msg(5),
      msg(6),
    );
    assert.deepEqual(lines, ["3 3", "joined again", "4 4", "5 5", "6 6"]);
  });

  test("a replay that is cut goes on where it was cut", () => {
    const { stage, lines } = inTea();
    stage.comesBack().hears('join {"id":2,"room":"tea","since":{"epoch":"e1","offset":2}}');
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":9},"recovered":true,"first":3}',
      msg(3),
    );
    stage.comesBack().hears('join {"id":3,"room":"tea","since":{"epoch":"e1","offset":3}}');
    stage.says(
      'joined {"id":3,"room":"tea","position":{"epoch":"e1","offset":9},"recovered":true,"first":4}',
      msg(4),
    );
    assert.deepEqual(lines, ["joined again", "3 3", "joined again", "4 4"]);
  });

  test("what was replayed already is dropped", () => {
    const { stage, lines } = inTea();
    stage.says(msg(3), msg(4)).comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":5},"recovered":true,"first":3}',
      ...[3, 4, 5, 5, 6].map((offset) => msg(offset)),
    );
    assert.deepEqual(lines, ["3 3", "4 4", "joined again", "5 5", "6 6"]);
  });

  test("what the server no longer holds is a gap", async () => {
    const { stage, room, lines } = inTea();
    const joins = [];
    room.on("joined", (joined) => joins.push(joined));
    stage.comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":9},"recovered":false,"first":8}',
      msg(8),
      msg(9),
    );
    assert.deepEqual(lines, ["joined again", "gap evicted 3..7", "8 8", "9 9"]);
    assert.deepEqual(joins, [
      {
        room: "tea",
        position: { epoch: "e1", offset: 9 },
        first: 8,
        recovered: false,
        again: true,
      },
    ]);
  });

  test("so it is if it holds nothing at all, and the gap is there before the next publication", () => {
    const { stage, room, lines } = inTea();
    const gaps = [];
    room.on("gap", (gap) => gaps.push(gap));
    stage.comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":9},"recovered":false,"first":10}',
    );
    assert.deepEqual(taken(lines), ["joined again", "gap evicted 3..9"]);
    assert.deepEqual(gaps, [{ room: "tea", reason: "evicted", epoch: "e1", from: 3, to: 9 }]);
    stage.says(msg(10));
    assert.deepEqual(lines, ["10 10"]);
  });

  test("another epoch is taken over, with its own offsets", () => {
    const { stage, room, lines } = inTea();
    stage.comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e2","offset":1},"recovered":false,"first":1}',
      msg(1, "new"),
      msg(2, "newer"),
    );
    assert.deepEqual(lines, ["joined again", "gap epoch null..null", '1 "new"', '2 "newer"']);
    assert.deepEqual(room.position, { epoch: "e2", offset: 2 });
    stage.comesBack().hears('join {"id":3,"room":"tea","since":{"epoch":"e2","offset":2}}');
  });

  test("another epoch in which nothing is missing is no gap", () => {
    const { stage, lines } = inTea();
    stage.comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e2","offset":8},"recovered":true,"first":7}',
      msg(7),
      msg(8),
      msg(9),
    );
    assert.deepEqual(lines, ["joined again", "7 7", "8 8", "9 9"]);
  });

  test("a server that says that all is there and begins later is not believed", () => {
    const { stage, lines } = inTea();
    stage.comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":9},"recovered":true,"first":6}',
    );
    assert.deepEqual(lines, ["joined again", "gap jump 3..5"]);
  });

  test("a room whose offsets went back within an epoch is a gap of unknown size", () => {
    for (const recovered of [false, true]) {
      const { stage, lines } = inTea();
      stage.says(msg(3), msg(4)).comesBack();
      stage.says(
        `joined {"id":2,"position":{"epoch":"e1","offset":1},"recovered":${recovered},"first":1}`,
        msg(1, "other"),
      );
      assert.deepEqual(lines, ["3 3", "4 4", "joined again", "gap epoch null..null", '1 "other"']);
    }
  });

  test("an answer that says nothing about what is missing is a gap", () => {
    const { stage, lines } = inTea();
    stage.comesBack();
    stage.says('joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":6},"already":true}');
    assert.deepEqual(lines, ["joined again", "gap evicted 3..6"]);
  });

  test("a room that does not take us again is no longer wanted", async () => {
    const { stage, room, lines } = inTea();
    const publications = room.publications();
    stage.comesBack();
    stage.says('error {"id":2,"event":"join","room":"tea","code":"bad_room","message":"gone"}');
    assert.deepEqual(lines, ["refused bad_room"]);
    assert.deepEqual(stage.connection.rooms, []);
    assert.equal(stage.errors.length, 1);
    await rejected(publications.next(), RefusedError);
  });

  test("a join that waits for the server's pause is made on the new connection", () => {
    const stage = open();
    stage.connection.room("tea").join();
    stage.hears('join {"id":1,"room":"tea"}');
    stage.says('error {"id":1,"code":"overloaded","retry_after_ms":5000}');
    stage.comesBack().hears('join {"id":2,"room":"tea"}');
    stage.says('joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":0}}');
    stage.passes(5000).hears();
  });
});

describe("gaps while connected", () => {
  test("what the server left out is told, and what comes after it is heard", () => {
    const { stage, room, lines } = inTea();
    stage.says(msg(3), 'gap {"room":"tea","from":4,"to":77}', msg(78));
    assert.deepEqual(lines, ["3 3", "gap slow 4..77", "78 78"]);
    assert.deepEqual(room.position, { epoch: "e1", offset: 78 });
  });

  test("after a gap the room is joined again behind it", () => {
    const { stage } = inTea();
    stage.says('gap {"room":"tea","from":3,"to":77}').comesBack();
    stage.hears('join {"id":2,"room":"tea","since":{"epoch":"e1","offset":77}}');
  });

  test("offsets that are left out without a word are told as well", () => {
    const { stage, lines } = inTea();
    stage.says(msg(6), msg(7));
    assert.deepEqual(lines, ["gap jump 3..5", "6 6", "7 7"]);
  });

  test("each missing offset is told once", () => {
    const { stage, lines } = inTea();
    stage.says(
      msg(6),
      // Known by the jump.
      'gap {"room":"tea","from":3,"to":5}',
      // Partly of what came already.
      'gap {"room":"tea","from":5,"to":8}',
      // 9 and 10 are missing without a word.
      'gap {"room":"tea","from":11,"to":12}',
      msg(13),
    );
    assert.deepEqual(taken(lines), [
      "gap jump 3..5",
      "6 6",
      "gap slow 7..8",
      "gap jump 9..10",
      "gap slow 11..12",
      "13 13",
    ]);
  });

  test("repeats are dropped", () => {
    const { stage, lines } = inTea();
    stage.says(msg(1), msg(2), msg(3), msg(3), msg(2), msg(4));
    assert.deepEqual(lines, ["3 3", "4 4"]);
  });

  test("a publication says what is missing before it", () => {
    const { stage, room } = inTea();
    const gaps = [];
    room.on("publication", ({ gap }) => gaps.push(gap && [gap.reason, gap.from, gap.to]));
    stage.says(msg(3), 'gap {"room":"tea","from":4,"to":5}', msg(8), msg(9));
    assert.deepEqual(gaps, [null, ["jump", 4, 7], null]);
    stage.comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e2","offset":5},"recovered":false,"first":5}',
      'gap {"room":"tea","from":5,"to":6}',
      msg(7),
    );
    assert.deepEqual(gaps.slice(3), [["epoch", null, null]]);
  });

  test("publications and gaps that make no sense are told of and not used", () => {
    const { stage, room, lines } = inTea();
    stage.says(
      'msg {"room":"tea","msg":1}',
      'msg {"room":"tea","offset":-1,"msg":1}',
      'msg {"room":"tea","offset":3}',
      'gap {"room":"tea","from":3}',
    );
    assert.deepEqual(lines, []);
    assert.equal(stage.errors.length, 4);
    assert.ok(stage.errors.every((error) => error instanceof ProtocolError));
    assert.equal(room.position.offset, 2);
  });
});

describe("events", () => {
  test("arrive with what was emitted", () => {
    const { stage, room, lines } = inTea();
    const seen = [];
    room.on("event", (emission) => seen.push(emission));
    stage.says('typing {"room":"tea","from":"Ab1","data":{"who":"ada"}}', 'bye {"room":"tea"}');
    assert.deepEqual(seen, [
      { room: "tea", event: "typing", from: "Ab1", data: { who: "ada" } },
      { room: "tea", event: "bye", from: null, data: null },
    ]);
    assert.deepEqual(lines, ['typing {"who":"ada"}', "bye null"]);
  });

  test("of rooms that we are not in are ignored, and so are the protocol's own", () => {
    const { stage, lines } = inTea();
    stage.says(
      'typing {"room":"elsewhere"}',
      'presence {"room":"tea","data":1}',
      'throng.later {"room":"tea"}',
      'msg {"room":"elsewhere","offset":1,"msg":1}',
    );
    assert.deepEqual(lines, []);
    assert.deepEqual(stage.errors, []);
  });

  test("are emitted now or not at all", () => {
    const stage = new Stage();
    const room = stage.connection.room("tea");
    assert.equal(room.emit("typing"), false);
    stage.greets();
    assert.equal(room.emit("typing"), true);
    assert.equal(room.emit("typing", { who: "ada" }), true);
    stage.hears(
      'emit {"to":"tea","event":"typing","data":null}',
      'emit {"to":"tea","event":"typing","data":{"who":"ada"}}',
    );
    stage.socket.bufferedAmount = (1 << 20) + 1;
    assert.equal(room.emit("typing"), false);
    stage.socket.bufferedAmount = 0;
    stage.socket.readyState = 2;
    assert.equal(room.emit("typing"), false);
    stage.comesBack().hears();
  });

  test("that the server refuses are told of", () => {
    const stage = open();
    stage.connection.room("tea").emit("typing");
    stage.says('error {"event":"emit","room":"tea","code":"bad_event","message":"no"}');
    assert.deepEqual([stage.errors[0].event, stage.errors[0].code], ["emit", "bad_event"]);
  });

  test("that cannot be emitted are a mistake", () => {
    const room = open().connection.room("tea");
    for (const event of [
      "",
      "a b",
      "a\nb",
      "x".repeat(65),
      "é".repeat(33),
      "msg",
      "throng",
      "throngs",
    ]) {
      assert.throws(() => room.emit(event), TypeError, event);
    }
    assert.throws(() => room.emit("typing", () => {}), TypeError);
    assert.equal(room.emit("é".repeat(32)), true);
    const message = { name: "RefusedError", code: "too_large" };
    assert.throws(() => room.emit("typing", "x".repeat(65536)), message);
  });
});

describe("memory", () => {
  test("a room that nobody has to do with any longer is forgotten", async () => {
    setFlagsFromString("--expose-gc");
    const collectGarbage = runInNewContext("gc");
    const stage = open();
    const use = (number) => {
      const room = stage.connection.room(`room ${number}`);
      const off = room.on("publication", () => {});
      const publications = room.publications();
      room.join();
      room.publish(number);
      const { sent } = stage.socket;
      const [join, publish] = sent
        .splice(0)
        .map((line) => JSON.parse(line.slice(line.indexOf("{"))));
      stage.says(
        `joined ${JSON.stringify({ ...join, position: { epoch: "e1", offset: 0 } })}`,
        `ack {"id":${publish.id}}`,
      );
      off();
      publications.return();
      room.leave();
      stage.says(`left ${sent.splice(0)[0].slice("leave ".length)}`);
      assert.equal(stage.connection.unacknowledged, 0);
    };
    const heapAfter = async (from, to) => {
      for (let number = from; number < to; number += 1) use(number);
      // Promises are forgotten over several turns, as the test runner keeps track of them.
      for (let turn = 0; turn < 5; turn += 1) {
        await new Promise((resolve) => setImmediate(resolve));
        collectGarbage();
      }
      return process.memoryUsage().heapUsed;
    };
    // A room that is kept takes a kilobyte and more; the first thousand are for the compiler.
    const before = await heapAfter(0, 1000);
    const grown = (await heapAfter(1000, 11_000)) - before;
    assert.ok(grown < 2 << 20, `10,000 rooms left ${grown} bytes behind`);
  });
});

describe("close()", () => {
  test("settles joins and leaves", async () => {
    const { stage, room } = inTea();
    const left = room.leave();
    const join = stage.connection.room("cake").join();
    stage.connection.close();
    await resolved(left);
    await rejected(join, ClosedError);
    assert.deepEqual(stage.errors, []);
    assert.equal(stage.clock.timers, 0);
  });
});
