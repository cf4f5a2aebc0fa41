/**
 * @file Publications as an async iterator.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { LaggedError } from "@throng/client";
import { isPending, open, rejected, resolved } from "./support/stage.mjs";

const msg = (offset) => `msg {"room":"tea","offset":${offset},"msg":${offset}}`;

/** A member of `tea` at offset 0, and an iterator over what is published there. */
function reader(options) {
  const stage = open();
  const room = stage.connection.room("tea");
  const publications = room.publications(options);
  room.join();
  stage.says('joined {"id":1,"room":"tea","position":{"epoch":"e1","offset":0}}');
  return { stage, room, publications };
}

describe("an iterator", () => {
  test("hands out what came before it was asked and what comes after", async () => {
    const { stage, room, publications } = reader();
    stage.says(msg(1), msg(2));
    const seen = [];
    const reading = (async () => {
      for await (const { offset } of publications) seen.push(offset);
    })();
    await isPending(reading);
    stage.says(msg(3));
    await isPending(reading);
    assert.deepEqual(seen, [1, 2, 3]);
    // Leaving the room ends it, after what is held.
    stage.says(msg(4));
    room.leave();
    await resolved(reading);
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });

  test("may be asked several times at once", async () => {
    const { stage, publications } = reader();
    const asked = [publications.next(), publications.next(), publications.next()];
    stage.says(msg(1), msg(2));
    assert.equal((await resolved(asked[0])).value.offset, 1);
    assert.equal((await resolved(asked[1])).value.offset, 2);
    await isPending(asked[2]);
    stage.connection.close();
    assert.deepEqual(await resolved(asked[2]), { done: true, value: undefined });
  });

  test("at its bound takes no more, hands out what it holds, and then says where to go on", async () => {
    const { stage, room, publications } = reader({ bufferMax: 2 });
    const other = room.publications();
    const heard = [];
    room.on("publication", ({ offset }) => heard.push(offset));
    stage.says(msg(1), msg(2), msg(3), msg(4));
    assert.equal((await publications.next()).value.offset, 1);
    assert.equal((await publications.next()).value.offset, 2);
    const error = await rejected(publications.next(), LaggedError);
    assert.deepEqual(
      [error.room, error.position, error.bufferMax],
      ["tea", { epoch: "e1", offset: 2 }, 2],
    );
    assert.deepEqual(await publications.next(), { done: true, value: undefined });
    // Nobody else notices.
    assert.deepEqual(heard, [1, 2, 3, 4]);
    for (const offset of heard) assert.equal((await other.next()).value.offset, offset);
  });

  test("holds 1000 unless told otherwise", async () => {
    const { stage, publications } = reader();
    for (let offset = 1; offset <= 1001; offset += 1) stage.says(msg(offset));
    for (let offset = 1; offset <= 1000; offset += 1) await publications.next();
    await rejected(publications.next(), LaggedError);
  });

  test("at its bound that is left says nothing more", async () => {
    const { stage, publications } = reader({ bufferMax: 1 });
    stage.says(msg(1), msg(2));
    await publications.return();
    assert.deepEqual(await publications.next(), { done: true, value: undefined });
  });

  test("that reads along is never at its bound", async () => {
    const { stage, publications } = reader({ bufferMax: 1 });
    for (let offset = 1; offset <= 10; offset += 1) {
      stage.says(msg(offset));
      assert.equal((await publications.next()).value.offset, offset);
    }
  });

  test("goes on over a lost connection, and says what is missing", async () => {
    const { stage, publications } = reader();
    stage.says(msg(1)).comesBack();
    stage.says(
      'joined {"id":2,"room":"tea","position":{"epoch":"e1","offset":5},"recovered":false,"first":5}',
      msg(5),
    );
    assert.equal((await publications.next()).value.gap, null);
    const { offset, gap } = (await publications.next()).value;
    assert.deepEqual([offset, gap.from, gap.to], [5, 2, 4]);
  });

  test("that is left holds nothing and takes nothing", async () => {
    const { stage, publications } = reader();
    stage.says(msg(1), msg(2));
    for await (const { offset } of publications) {
      assert.equal(offset, 1);
      break;
    }
    stage.says(msg(3));
    assert.deepEqual(await publications.next(), { done: true, value: undefined });
  });

  test("a bound that is none is a mistake", () => {
    const room = open().connection.room("tea");
    for (const bufferMax of [0, -1, NaN]) {
      assert.throws(() => room.publications({ bufferMax }), RangeError);
    }
  });
});
