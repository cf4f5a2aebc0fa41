/**
 * @file History: asked, answered, asked again.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ClosedError, ProtocolError, QueueFullError, RefusedError } from "@throng/client";
import { Stage, isPending, open, rejected, resolved } from "./support/stage.mjs";

const publication = (offset) => ({ room: "tea", offset, from: "Ab1", at: 5, msg: offset });

function answer(id, fields) {
  return `history ${JSON.stringify({ id, room: "tea", ...fields })}`;
}

describe("history", () => {
  test("since a position, with what is missing before the first", async () => {
    const stage = open();
    const since = { epoch: "e1", offset: 41, room: "tea", data: "a publication will do" };
    const promise = stage.connection.room("tea").history({ since, limit: 2 });
    stage.hears('history {"id":1,"room":"tea","since":{"epoch":"e1","offset":41},"limit":2}');
    const fields = {
      position: { epoch: "e1", offset: 51 },
      more: true,
      recovered: false,
      first: 50,
    };
    stage.says(answer(1, { ...fields, publications: [publication(50), publication(51)] }));
    const gap = { room: "tea", reason: "evicted", epoch: "e1", from: 42, to: 49 };
    const told = { room: "tea", epoch: "e1", from: "Ab1", at: 5 };
    assert.deepEqual(await resolved(promise), {
      room: "tea",
      position: { epoch: "e1", offset: 51 },
      publications: [
        { ...told, offset: 50, data: 50, gap },
        { ...told, offset: 51, data: 51, gap: null },
      ],
      more: true,
      recovered: false,
    });
  });

  test("the last few, and of a room that does not exist", async () => {
    const stage = open();
    const room = stage.connection.room("tea");
    const last = room.history({ last: 1 });
    const none = room.history({ since: { epoch: "e1", offset: 4 } });
    stage.hears(
      'history {"id":1,"room":"tea","last":1}',
      'history {"id":2,"room":"tea","since":{"epoch":"e1","offset":4}}',
    );
    stage.says(
      answer(2, { position: null, publications: [] }),
      answer(1, { position: { epoch: "e1", offset: 9 }, publications: [publication(9)] }),
    );
    const { publications, recovered, more } = await resolved(last);
    assert.deepEqual([publications.length, recovered, more], [1, null, false]);
    assert.deepEqual(await resolved(none), {
      room: "tea",
      position: null,
      publications: [],
      more: false,
      recovered: null,
    });
  });

  test("waits for a connection, and is asked again after a lost one", async () => {
    const stage = new Stage();
    const promise = stage.connection.room("tea").history({ last: 1 });
    stage.greets().hears('history {"id":1,"room":"tea","last":1}');
    stage.comesBack().hears('history {"id":2,"room":"tea","last":1}');
    stage.says(answer(2, { position: null, publications: [] }));
    await resolved(promise);
    stage.comesBack().hears();
  });

  test("a server that is too busy is asked again after its pause", async () => {
    const stage = open();
    const promise = stage.connection.room("tea").history({ last: 1 });
    stage.says('error {"id":1,"code":"overloaded","retry_after_ms":1500}');
    stage.hears('history {"id":1,"room":"tea","last":1}').passes(1499).hears();
    stage.comesBack().hears();
    stage.passes(1).hears('history {"id":2,"room":"tea","last":1}');
    await isPending(promise);
    stage.says('error {"id":2,"code":"overloaded","retry_after_ms":1500}').connection.close();
    await rejected(promise, ClosedError);
    assert.equal(stage.clock.timers, 0);
  });

  test("refusals and answers that are none reject, and are told of", async () => {
    for (const [line, type] of [
      [
        'error {"id":1,"event":"history","room":"tea","code":"bad_room","message":"no"}',
        RefusedError,
      ],
      ['ack {"id":1}', ProtocolError],
      ['history {"id":1,"position":{"epoch":"e1","offset":1}}', ProtocolError],
      ['history {"id":1,"position":5,"publications":[]}', ProtocolError],
      ['history {"id":1,"position":null,"publications":[{"offset":1}]}', ProtocolError],
      ['history {"id":1,"position":null,"publications":[5]}', ProtocolError],
    ]) {
      const stage = open();
      const promise = stage.connection.room("tea").history({ last: 1 });
      stage.says(line);
      assert.deepEqual(stage.errors, [await rejected(promise, type)]);
    }
  });

  test("128 questions may wait, over all rooms", async () => {
    const stage = open();
    const ask = (number) => stage.connection.room(`room ${number}`).history({ last: 1 });
    const all = Array.from({ length: 128 }, (_, number) => ask(number));
    const { limit, max, room } = await rejected(ask(128), QueueFullError);
    assert.deepEqual([limit, max, room], ["histories", 128, "room 128"]);
    stage.says(answer(1, { position: null, publications: [] }));
    await resolved(all[0]);
    await isPending(ask(129));
  });

  test("what cannot be asked is a mistake", async () => {
    const room = open().connection.room("tea");
    const since = { epoch: "e1", offset: 1 };
    for (const request of [
      {},
      { since, last: 1 },
      { since: { epoch: "e1" } },
      { since, limit: 0 },
      { last: -1 },
    ]) {
      await assert.rejects(room.history(request), TypeError);
    }
  });
});
