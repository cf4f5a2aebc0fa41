/**
 * @file The chat page while the network or the server is away, and what a person is told of it.
 *
 * Every message must be on the screen once, where the room has it; what is missing must be said.
 */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { Person, Visit, launchBrowser, missed } from "./person.mjs";
import { Server } from "./server.mjs";

const UNKNOWN_GAP =
  "Something may be missing here: the server began anew, and does not know what was said meanwhile.";
/** More than the kernel takes from a server whose client does not read. */
const FLOOD_BYTES = 16 << 20;
const FLOOD_MESSAGE_BYTES = 60_000;
const FLOOD_MESSAGES = Math.ceil(FLOOD_BYTES / FLOOD_MESSAGE_BYTES);

describe("the chat page, away and back", () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {Visit} */
  let visit;
  /** @type {string | null} */
  let folder = null;

  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser?.close());
  afterEach(async () => {
    await visit.end();
    if (folder !== null) rmSync(folder, { recursive: true });
    folder = null;
  });

  /** Settings of a server that has its histories on a disk, which goes with the test. */
  function onDisk() {
    folder = mkdtempSync(joinPath(tmpdir(), "throng-page-"));
    return { THRONG_HISTORY_PATH: folder, THRONG_HISTORY_ON_FAILURE: "refuse" };
  }

  /** Ada is in these rooms, by way of a network that can be taken away. */
  async function beginAlone({ env, rooms = ["lobby"] } = {}) {
    visit = await Visit.begin(browser, env);
    const network = await visit.network();
    const ada = await visit.person(Person.address(network, "Ada", ...rooms));
    await visit.server.reaches({ throng_members: rooms.length });
    return { network, ada };
  }

  /** And so is Ben, whose network nothing happens to. */
  async function begin({ env, rooms = ["lobby"] } = {}) {
    const { network, ada } = await beginAlone({ env, rooms });
    const ben = await visit.person(Person.address(visit.server, "Ben", ...rooms));
    await visit.server.reaches({ throng_members: 2 * rooms.length });
    return { network, ada, ben };
  }

  async function goesAway(person, network) {
    network.cut();
    await person.isOffline();
    await person.page.getByText(/^You are offline\. Trying again in \d+ s\.$/).waitFor();
  }

  test("who was away is told how much they missed, and is shown it", async () => {
    const { network, ada, ben } = await begin();
    await ben.says("Before");
    await ada.sees("Before");
    await goesAway(ada, network);
    const golem = await visit.golemClient();
    for (let number = 1; number <= 12; number += 1) golem.say("lobby", `number ${number}`);
    await ben.sees("number 12");
    network.heal();
    const told = missed(12);
    await ada.isTold(told);
    await ada.sees("number 12");
    assert.deepEqual(await ada.timeline(), ["Before", told, ...numbers(1, 12)]);
    await ben.says("Welcome back");
    await ada.sees("Welcome back");
    assert.deepEqual(await ben.timeline(), ["Before", ...numbers(1, 12), "Welcome back"]);
  });

  test("who missed nothing is told nothing", async () => {
    const { network, ada, ben } = await begin();
    await goesAway(ada, network);
    network.heal();
    await ada.isOnline();
    await ben.says("Still here?");
    await ada.sees("Still here?");
    assert.deepEqual(await ada.timeline(), ["Still here?"]);
    assert.equal(await ada.page.locator("#offline").isVisible(), false);
  });

  test("what was said in another room meanwhile is unread", async () => {
    const { network, ada } = await begin({ rooms: ["lobby", "tea"] });
    await goesAway(ada, network);
    const golem = await visit.golemClient();
    golem.say("tea", "Tea is ready");
    await golem.settle();
    network.heal();
    await ada.page.locator('.badge[aria-label="1 unread"]').waitFor({ state: "attached" });
    assert.deepEqual(await ada.timeline(), []);
    await ada.switchesTo("tea");
    assert.deepEqual(await ada.timeline(), [missed(1), "Tea is ready"]);
  });

  test("what is written while away waits, and is then there once, in order", async () => {
    const { network, ada, ben } = await begin();
    await goesAway(ada, network);
    for (const text of ["One", "Two", "Three"]) await ada.says(text);
    await ada.pending.getByText("Waiting until you are back online.").nth(2).waitFor();
    assert.deepEqual(await ada.seen(), []);
    await ben.says("Meanwhile");
    await ben.sees("Meanwhile");
    await ada.screenshot("desktop-light-offline");
    network.heal();
    await ada.sees("Three");
    await ben.sees("Three");
    const told = missed(1);
    assert.deepEqual(await ada.timeline(), [told, "Meanwhile", "One", "Two", "Three"]);
    assert.deepEqual(await ben.timeline(), ["Meanwhile", "One", "Two", "Three"]);
    assert.equal(await ada.pending.count(), 0);
  });

  test("what waits can be withdrawn, and is never sent", async () => {
    const { network, ada, ben } = await begin();
    await goesAway(ada, network);
    await ada.says("Better not");
    await ada.page.getByRole("button", { name: "Do not send" }).click();
    await ada.pending.waitFor({ state: "detached" });
    await ada.says("This, then");
    network.heal();
    await ben.sees("This, then");
    assert.deepEqual(await ben.timeline(), ["This, then"]);
  });

  test("a message is there once if its answer was lost", async () => {
    const { network, ada, ben } = await begin();
    network.hold();
    await ada.says("Did it arrive?");
    await ben.sees("Did it arrive?");
    assert.equal(await ada.pending.count(), 1);
    assert.deepEqual(await ada.seen(), []);
    await goesAway(ada, network);
    await ben.says("It did.");
    await ben.sees("It did.");
    network.heal();
    await ada.sees("It did.");
    await ada.pending.waitFor({ state: "detached" });
    const told = missed(1);
    assert.deepEqual(await ada.timeline(), ["Did it arrive?", told, "It did."]);
    assert.deepEqual(await ben.timeline(), ["Did it arrive?", "It did."]);
  });

  test("a message that was sent before its room was left still arrives", async () => {
    const { network, ada, ben } = await begin({ rooms: ["lobby", "tea"] });
    await goesAway(ada, network);
    await ada.says("My last word");
    await ada.leaves();
    network.heal();
    await ben.sees("My last word");
    assert.deepEqual(await ada.page.locator(".room-name").allTextContents(), ["tea"]);
  });

  test("two tabs of one person come back, and both have everything once", async () => {
    const { network, ada, ben } = await begin();
    const tab = await visit.tab(ada, Person.address(network, "Ada", "lobby"));
    await visit.server.reaches({ throng_members: 3 });
    await goesAway(ada, network);
    await tab.isOffline();
    await ada.says("From the one");
    await tab.says("From the other");
    network.heal();
    for (const person of [ada, tab, ben]) {
      await person.sees("From the one");
      await person.sees("From the other");
      assert.equal(await person.pending.count(), 0);
      assert.deepEqual(await person.seen(), await ben.seen());
      assert.equal((await person.seen()).length, 2);
    }
  });

  test("what the server has dropped meanwhile is counted, and the rest is shown", async () => {
    const { network, ada } = await begin({ env: { THRONG_HISTORY_PUBLICATIONS: "5" } });
    await goesAway(ada, network);
    const golem = await visit.golemClient();
    for (let number = 1; number <= 12; number += 1) golem.say("lobby", `number ${number}`);
    await golem.settle();
    network.heal();
    await ada.sees("number 12");
    assert.deepEqual(await ada.timeline(), [
      "7 messages, 1 to 7, are missing here: the server does not keep them any more.",
      missed(5),
      ...numbers(8, 12),
    ]);
  });

  test("a restart of the server is announced, and that something may be missing is said", async () => {
    const { ada, ben } = await begin({
      env: { THRONG_DRAIN_SPREAD_S: "1" },
      rooms: ["lobby", "tea"],
    });
    await ben.says("Before");
    await ada.sees("Before");
    await ben.notesBeingOffline();
    await visit.restart({}, async () => {
      await Promise.all([ada.isOffline(), ben.isOffline()]);
      await ben.says("While it is away");
      await ben.pending.getByText("Waiting until you are back online.").waitFor();
    });
    const notice = /^The server is about to restart\. You are offline\. Trying again in \d+ s\.$/;
    const said = await ben.saidOfBeingOffline();
    assert.ok(said.some((text) => notice.test(text)), JSON.stringify(said));
    for (const person of [ada, ben]) {
      await person.isTold(UNKNOWN_GAP);
      await person.sees("While it is away");
    }
    await visit.server.reaches({ throng_connections: 2, throng_rooms: 2, throng_members: 4 });
    await ada.says("After");
    for (const person of [ada, ben]) {
      await person.sees("After");
      const seen = (await person.timeline()).filter((text) => !text.startsWith("You were away"));
      assert.deepEqual(seen, ["Before", UNKNOWN_GAP, "While it is away", "After"]);
      await person.page.getByText(/^What is earlier cannot be fetched: /).waitFor();
    }
  });

  test("a restart of a server that keeps its histories on disk takes nothing", async () => {
    const env = { ...onDisk(), THRONG_DRAIN_SPREAD_S: "1" };
    const { ada, ben } = await begin({ env });
    await ben.says("Before");
    await ada.sees("Before");
    await visit.restart(env, async () => {
      await Promise.all([ada.isOffline(), ben.isOffline()]);
      await ben.says("While it is away");
      await ben.pending.getByText("Waiting until you are back online.").waitFor();
    });
    await ada.sees("While it is away");
    await ben.sees("While it is away");
    for (const person of [ada, ben]) {
      // Who is back first misses nothing.
      const seen = (await person.timeline()).filter((text) => text !== missed(1));
      assert.deepEqual(seen, ["Before", "While it is away"]);
      assert.equal(await person.pending.count(), 0);
    }
    await ada.page.reload();
    await ada.sees("While it is away");
    assert.deepEqual(await ada.timeline(), ["Before", "While it is away"]);
  });

  test("a server that dies is come back to, too", async () => {
    const { ada, ben } = await begin();
    await ben.says("Before");
    await ada.sees("Before");
    const { address } = visit.server;
    await visit.server.kill();
    await Promise.all([ada.isOffline(), ben.isOffline()]);
    visit.server = await Server.start({ THRONG_LISTEN: address });
    for (const person of [ada, ben]) await person.isTold(UNKNOWN_GAP);
    await ada.says("After");
    await ben.sees("After");
    assert.deepEqual(await ben.timeline(), ["Before", UNKNOWN_GAP, "After"]);
  });

  /** Says more than the kernel takes, while Ada's page is sent nothing. */
  async function flood(network, isEnough) {
    const golem = await visit.golemClient();
    network.hold();
    const rest = "x".repeat(FLOOD_MESSAGE_BYTES);
    for (let number = 1; number <= FLOOD_MESSAGES; number += 1) {
      golem.say("lobby", { name: "Flood", text: `number ${number}`, rest });
    }
    await golem.settle();
    await visit.server.reachesAtLeast(isEnough);
  }

  const roomy = {
    THRONG_HISTORY_BYTES: String(2 * FLOOD_BYTES),
    THRONG_MAX_MAILBOX_BYTES: String(4 * FLOOD_BYTES),
  };

  test("who was too slow is told what was left out, and may have it", async () => {
    const rooms = `[{ match = "lobby", slow_consumer = "latest" }]`;
    const { network, ada } = await beginAlone({ env: { ...roomy, THRONG_ROOMS: rooms } });
    await flood(network, { throng_skipped_total: 10 });
    network.heal();
    await ada.sees(`number ${FLOOD_MESSAGES}`);
    const lines = ada.page.locator("#timeline .line");
    const missing = (await lines.allTextContents())
      .map((text) => countMissing(text, "this page was too slow"))
      .reduce((sum, count) => sum + count, 0);
    assert.equal((await ada.seen()).length + missing, FLOOD_MESSAGES);

    const bubbles = "#timeline .bubble";
    for (let seen; (seen = (await ada.seen()).length) < FLOOD_MESSAGES;) {
      await lines.getByRole("button", { name: /^Load (it|them)$/ }).first().click();
      await ada.page.waitForFunction(
        ([bubbles, seen]) => document.querySelectorAll(bubbles).length > seen,
        [bubbles, seen],
      );
    }
    assert.equal(await lines.count(), 0);
    assert.deepEqual(await ada.seen(), numbers(1, FLOOD_MESSAGES));
  });

  test("what was left out and has been dropped since is said to be gone", async () => {
    const rooms = `[{ match = "lobby", slow_consumer = "latest" }]`;
    const { network, ada } = await beginAlone({
      env: { ...roomy, THRONG_ROOMS: rooms, THRONG_HISTORY_PUBLICATIONS: "5" },
    });
    await flood(network, { throng_skipped_total: 10 });
    network.heal();
    await ada.sees(`number ${FLOOD_MESSAGES}`);
    const lines = ada.page.locator("#timeline .line");
    const seen = new Set(await ada.seen());
    const kept = numbers(FLOOD_MESSAGES - 4, FLOOD_MESSAGES).filter((text) => !seen.has(text));
    const load = lines.getByRole("button", { name: /^Load (it|them)$/ });
    for (let clicks = 0; (await load.count()) > 0; clicks += 1) {
      assert.ok(clicks < FLOOD_MESSAGES, "what is missing never becomes less");
      const before = (await lines.allTextContents()).join();
      await load.first().click();
      await ada.page.waitForFunction((before) => {
        const lines = [...document.querySelectorAll("#timeline .line")];
        const now = lines.map(({ textContent }) => textContent).join();
        return now !== before && !now.includes("Fetching");
      }, before);
    }
    const gone = (await lines.allTextContents())
      .map((text) => countMissing(text, "the server does not keep them any more"))
      .reduce((sum, count) => sum + count, 0);
    assert.equal((await ada.seen()).length, seen.size + kept.length);
    assert.equal((await ada.seen()).length + gone, FLOOD_MESSAGES);
  });

  test("who was closed for being too slow is told so, and has everything then", async () => {
    const env = { ...roomy, THRONG_MAX_OUTBOX_BYTES: "65536" };
    const { network, ada } = await beginAlone({ env });
    await flood(network, { throng_slow_consumers_total: 1 });
    network.heal();
    await ada.page.getByText(/^This page could not keep up with its rooms\. You are off/).waitFor();
    await ada.isOnline();
    await ada.sees(`number ${FLOOD_MESSAGES}`);
    assert.deepEqual(await ada.seen(), numbers(1, FLOOD_MESSAGES));
    await ada.isTold(/^You were away for \d+ s; \d+ messages came meanwhile\.$/);
  });
});

/** How many messages a line says are missing, and why. */
function countMissing(text, why) {
  const one = /^Message \d+ is missing here: (.*)\./.exec(text);
  if (one) {
    assert.equal(one[1], why);
    return 1;
  }
  const [, count, from, to, found] =
    /^(\d+) messages, (\d+) to (\d+), are missing here: (.*)\./.exec(text);
  assert.equal(found, why);
  assert.equal(Number(count), to - from + 1);
  return Number(count);
}

/** What counts from one number to another. */
function numbers(from, to) {
  return Array.from({ length: to - from + 1 }, (_, index) => `number ${from + index}`);
}
