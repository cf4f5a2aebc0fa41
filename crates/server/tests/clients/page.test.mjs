/**
 * @file The chat page in a real browser: what a person does with it, and what must never happen.
 *
 * What becomes of it while the network or the server is away is in page-recovery.test.mjs.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Person, Visit, launchBrowser, missed } from "./person.mjs";
import { Server } from "./server.mjs";

/** What chat-timeline.js keeps of one room, shows of it to who joins, and fetches at a time. */
const MESSAGES_MAX = 500;
const LAST = 50;
const FETCHED = 50;
/** The settings of a server of throng.v1 that tests make up. */
const HELLO = {
  server: "double/1",
  keepalive_ms: 25_000,
  limits: { message_bytes: 65_536, rooms: 128, room_name_bytes: 255, key_bytes: 64 },
};

/** A server behind a page's WebSocket that greets and hands the rest to `handle`. */
function double(handle = () => {}) {
  const sockets = [];
  const socket = (ws) => {
    sockets.push(ws);
    ws.send(`hello ${JSON.stringify({ ...HELLO, connection: `double-${sockets.length}` })}`);
    ws.onMessage((text) => {
      const [, event, json] = /^(\w+) (.*)$/s.exec(text);
      handle(ws, event, JSON.parse(json), sockets.length);
    });
  };
  return { socket, sockets };
}

describe("the chat page", () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {Visit} */
  let visit;
  /** @type {Server} */
  let server;

  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser?.close());
  // Rooms outlive their members: a server for each test.
  beforeEach(async () => {
    visit = await Visit.begin(browser);
    ({ server } = visit);
  });
  afterEach(() => visit.end());

  test("a newcomer gives a name and joins the lobby with one click", async () => {
    const ada = await visit.person(server.url);
    await ada.page.getByLabel("Your name").last().fill("Ada");
    await ada.page.getByRole("button", { name: "Join lobby" }).click();
    await server.reaches({ throng_connections: 1, throng_rooms: 1, throng_members: 1 });
    await ada.says("Hello?");
    await ada.sees("Hello?");
    assert.equal(await ada.page.title(), "lobby – Throng");
  });

  test("the name is remembered, and a link with rooms joins them", async () => {
    const [ada] = await visit.members(["Ada"], "lobby", "tea");
    assert.equal(new URL(ada.page.url()).search, "?room=lobby&room=tea");
    await ada.page.reload();
    await ada.isOnline();
    await server.reaches({ throng_connections: 1, throng_rooms: 2, throng_members: 2 });
    assert.equal(await ada.page.locator("#person-name").inputValue(), "Ada");
    assert.equal(await ada.page.locator("#title-room").textContent(), "lobby");
  });

  test("what was said before is shown to who joins, and to who loads the page again", async () => {
    const [ada] = await visit.members(["Ada"], "lobby");
    await ada.says("Is anybody there?");
    await ada.sees("Is anybody there?");
    const ben = await visit.person(Person.address(server, "Ben", "lobby"));
    await ben.sees("Is anybody there?");
    assert.equal(await ben.page.title(), "lobby – Throng");
    await ben.says("Now there is.");
    await ada.sees("Now there is.");
    await ada.page.reload();
    await ada.sees("Now there is.");
    assert.deepEqual(await ada.seen(), ["Is anybody there?", "Now there is."]);
    assert.deepEqual(await ada.page.locator(".message .name").allTextContents(), ["You", "Ben"]);
    await ada.page.getByText("Nothing earlier is kept.").waitFor();
  });

  test("earlier messages are fetched, and who reads stays where they were", async () => {
    const golem = await visit.golemClient();
    const count = LAST + FETCHED + 7;
    for (let number = 1; number <= count; number += 1) golem.say("lobby", `number ${number}`);
    await golem.settle();
    const [ada] = await visit.members(["Ada"], "lobby");
    await ada.sees(`number ${count}`);
    assert.deepEqual(await ada.seen(), numbers(count - LAST + 1, count));

    const timeline = ada.page.locator("#timeline");
    await timeline.evaluate((node) => (node.scrollTop = 0));
    const first = ada.bubbles(`number ${count - LAST + 1}`);
    const top = async () => Math.round((await first.boundingBox()).y);
    const before = await top();
    const more = ada.page.getByRole("button", { name: "Earlier messages" });
    await more.click();
    await ada.bubbles(`number ${count - LAST - FETCHED + 1}`).waitFor({ state: "attached" });
    assert.deepEqual(await ada.seen(), numbers(count - LAST - FETCHED + 1, count));
    assert.ok(Math.abs((await top()) - before) <= 1, `moved from ${before} to ${await top()}`);

    await more.focus();
    await ada.page.keyboard.press("Enter");
    await ada.page.getByText("Nothing earlier is kept.").waitFor({ state: "attached" });
    assert.deepEqual(await ada.seen(), numbers(1, count));
    assert.equal(await ada.page.evaluate(() => document.activeElement.id), "timeline");
    assert.equal(await more.isVisible(), false);
  });

  test("earlier messages that fill several answers are fetched whole", async () => {
    const golem = await visit.golemClient();
    // An answer to `history` carries 256 KiB.
    const long = (number) => ({ name: "Long", text: `number ${number}`, rest: "x".repeat(9_000) });
    for (let number = 1; number <= LAST + 40; number += 1) golem.say("lobby", long(number));
    await golem.settle();
    const [ada] = await visit.members(["Ada"], "lobby");
    await ada.sees(`number ${LAST + 40}`);
    await ada.page.getByRole("button", { name: "Earlier messages" }).click();
    await ada.page.getByText("Nothing earlier is kept.").waitFor({ state: "attached" });
    assert.deepEqual(await ada.seen(), numbers(1, LAST + 40));
  });

  test("earlier messages that the server has dropped meanwhile are said to be gone", async () => {
    await visit.restart({ THRONG_HISTORY_PUBLICATIONS: String(LAST + 10) });
    ({ server } = visit);
    const golem = await visit.golemClient();
    for (let number = 1; number <= LAST + 10; number += 1) golem.say("lobby", `number ${number}`);
    await golem.settle();
    const [ada] = await visit.members(["Ada"], "lobby");
    await ada.sees(`number ${LAST + 10}`);
    for (let number = 1; number <= 5; number += 1) golem.say("lobby", `later ${number}`);
    await ada.sees("later 5");
    await ada.page.getByRole("button", { name: "Earlier messages" }).click();
    await ada.page.getByText("Nothing earlier is kept.").waitFor({ state: "attached" });
    assert.equal((await ada.seen())[0], "number 6");
  });

  test("two people in one room talk both ways, and each knows who said what", async () => {
    const [ada, ben] = await visit.members(["Ada", "Ben"], "lobby");
    await ada.says("Good morning, Ben.");
    await ben.sees("Good morning, Ben.");
    await ben.says("Good morning, Ada.");
    await ada.sees("Good morning, Ada.");
    for (const person of [ada, ben]) {
      assert.deepEqual(await person.seen(), ["Good morning, Ben.", "Good morning, Ada."]);
    }
    assert.deepEqual(await ada.page.locator(".message .name").allTextContents(), ["You", "Ben"]);
    assert.deepEqual(await ben.page.locator(".message .name").allTextContents(), ["Ada", "You"]);
  });

  test("who is in another room hears nothing of the lobby", async () => {
    const [ada, ben] = await visit.members(["Ada", "Ben"], "lobby");
    const cleo = await visit.person(Person.address(server, "Cleo", "library"));
    await server.reaches({ throng_members: 3, throng_rooms: 2 });
    await ada.says("Only for the lobby");
    await ben.sees("Only for the lobby");
    await cleo.says("Only for the library");
    await cleo.sees("Only for the library");
    assert.deepEqual(await cleo.seen(), ["Only for the library"]);
    assert.deepEqual(await ada.seen(), ["Only for the lobby"]);
  });

  test("messages of another room are counted until one looks", async () => {
    const [ada] = await visit.members(["Ada"], "lobby", "tea");
    const ben = await visit.person(Person.address(server, "Ben", "tea"));
    await server.reaches({ throng_members: 3 });
    await ben.says("One");
    await ben.says("Two");
    await ada.page.locator('.badge[aria-label="2 unread"]').waitFor();
    assert.equal(await ada.page.title(), "(2) lobby – Throng");
    assert.deepEqual(await ada.seen(), []);
    await ada.switchesTo("tea");
    assert.deepEqual(await ada.seen(), ["One", "Two"]);
    assert.equal(await ada.page.title(), "tea – Throng");
    await ada.page.keyboard.press("Alt+ArrowUp");
    await ada.page.locator("#title-room").getByText("lobby", { exact: true }).waitFor();
  });

  test("who leaves a room hears it no more and stays in the others", async () => {
    const [ada, ben] = await visit.members(["Ada", "Ben"], "lobby", "tea");
    await ada.switchesTo("tea");
    await ada.leaves();
    await server.reaches({ throng_members: 3, throng_rooms: 2 });
    await ben.switchesTo("tea");
    await ben.says("Anyone for tea?");
    await ben.sees("Anyone for tea?");
    await ben.switchesTo("lobby");
    await ben.says("In the lobby, then.");
    await ada.sees("In the lobby, then.");
    assert.deepEqual(await ada.seen(), ["In the lobby, then."]);
    await ada.leaves();
    await ada.page.getByRole("button", { name: "Join lobby" }).waitFor();
    await server.reaches({ throng_members: 2, throng_rooms: 2, throng_connections: 2 });
  });

  test("a closed tab takes its member out, and the room with the last of them", async () => {
    const [ada, ben] = await visit.members(["Ada", "Ben"], "lobby");
    await server.reaches({ throng_connections: 2, throng_rooms: 1, throng_members: 2 });
    await ben.page.close();
    await server.reaches({ throng_connections: 1, throng_rooms: 1, throng_members: 1 });
    await ada.page.close();
    await server.reaches({ throng_connections: 0, throng_rooms: 0, throng_members: 0 });
  });

  test("a hostile message is text, whoever sends it", async () => {
    const [ada, ben] = await visit.members(["Ada", "Ben"], "lobby");
    const hostile = '<img src=x onerror="document.title=1">';
    await ben.says(hostile);
    await ada.sees(hostile);
    const stranger = await visit.golemClient();
    stranger.say("lobby", { room: "lobby", name: hostile, text: "<script>alert(1)</script>" });
    await ada.sees("<script>alert(1)</script>");
    stranger.say("lobby", {
      room: "lobby",
      name: "Link",
      text: "javascript:alert(1) https://example.org/.",
    });
    const links = ada.page.locator("#timeline a");
    await links.waitFor();
    assert.deepEqual(await links.evaluateAll((all) => all.map(({ href }) => href)), [
      "https://example.org/",
    ]);
    assert.equal(await ada.page.locator("#timeline img, #timeline script").count(), 0);
    assert.equal(await ada.page.locator(".name").getByText(hostile.slice(0, 38)).count(), 1);
  });

  test("what other programs say is shown in the room that it was said in", async () => {
    const [ada] = await visit.members(["Ada"], "lobby");
    const golem = await visit.golemClient();
    golem.say("lobby", "a plain string");
    await ada.sees("a plain string");
    await ada.joins("tea");
    await server.reaches({ throng_members: 2 });
    golem.say("lobby", 42);
    golem.say("tea", { room: "lobby", text: "whatever it says", name: 7, time: {} });
    await ada.sees("whatever it says");
    assert.deepEqual(await ada.seen(), ["whatever it says"]);
    await ada.page.locator('.badge[aria-label="1 unread"]').waitFor({ state: "attached" });
    await ada.switchesTo("lobby");
    golem.say("lobby", null);
    await ada.sees("null");
    assert.deepEqual(await ada.seen(), ["a plain string", "42", "null"]);
  });

  test("the time of a message is the server's", async () => {
    const { socket } = double((ws, event, { id, room }) => {
      if (event !== "join") return;
      const position = { epoch: "e", offset: 2 };
      ws.send(`joined ${JSON.stringify({ id, room, position, first: 1 })}`);
      const at = [Date.UTC(2001, 1, 3, 4, 5, 6), 1e300];
      for (const offset of [1, 2]) {
        ws.send(`msg ${JSON.stringify({ room, offset, at: at[offset - 1], msg: `at ${offset}` })}`);
      }
    });
    const ada = await visit.person(Person.address(server, "Ada", "lobby"), { socket });
    await ada.sees("at 2");
    const times = await ada.page.locator(".message time").evaluateAll((all) =>
      all.map(({ dateTime, textContent }) => [dateTime, textContent]),
    );
    assert.equal(times[0][0], "2001-02-03T04:05:06.000Z");
    assert.match(times[0][1], /Feb 3/);
    // One that no calendar has is the page's own.
    assert.match(times[1][0], new RegExp(`^${new Date().getFullYear()}-`));
  });

  test("nobody can pass for the person at the page", async () => {
    const [ada] = await visit.members(["Ada"], "lobby");
    const copycat = await visit.golemClient();
    await copycat.join("lobby");
    await ada.says("It is me");
    assert.deepEqual(await copycat.next(), ["typing", { name: "Ada" }]);
    const msg = await copycat.message();
    assert.deepEqual(msg, { name: "Ada", text: "It is me" });
    copycat.say("lobby", msg);
    await ada.page.locator(".message:not(.own) .bubble").getByText("It is me").waitFor();
    assert.deepEqual(await ada.page.locator(".message .name").allTextContents(), ["You", "Ada"]);
    assert.equal(await ada.page.locator(".message.own").count(), 1);
  });

  test("two tabs of one person are two members, and each message is in both once", async () => {
    const [first] = await visit.members(["Ada"], "lobby");
    const second = await visit.tab(first, Person.address(server, "Ada", "lobby"));
    await server.reaches({ throng_members: 2 });
    await first.says("From the first");
    await second.sees("From the first");
    await second.says("From the second");
    await first.sees("From the second");
    for (const tab of [first, second]) {
      assert.deepEqual(await tab.seen(), ["From the first", "From the second"]);
      assert.equal(await tab.pending.count(), 0);
    }
    const names = (tab) => tab.page.locator(".message .name").allTextContents();
    assert.deepEqual(await names(first), ["You", "Ada"]);
    assert.deepEqual(await names(second), ["Ada", "You"]);
  });

  test("who types is seen to type, until the message is there or they stop", async () => {
    const [ada, ben] = await visit.members(["Ada", "Ben"], "lobby");
    const typing = ada.page.locator("#typing");
    await ben.page.getByLabel("Message", { exact: true }).pressSequentially("Well, ");
    await typing.getByText("\u2068Ben\u2069 is typing", { exact: true }).waitFor();
    await ben.says("Well, here I am");
    await ada.sees("Well, here I am");
    assert.equal(await typing.textContent(), "");
    assert.equal(await ben.page.locator("#typing").textContent(), "");
    await ada.page.clock.install();
    await ben.page.getByLabel("Message", { exact: true }).pressSequentially("And");
    await typing.getByText("is typing").waitFor();
    await ada.page.clock.fastForward(10_000);
    await typing.getByText("is typing").waitFor({ state: "detached" });
  });

  test("a timeline keeps its last messages and no more", async () => {
    const [ada] = await visit.members(["Ada"], "lobby");
    const golem = await visit.golemClient();
    for (let number = 1; number <= MESSAGES_MAX + 100; number += 1) {
      golem.say("lobby", { name: "Counter", text: `number ${number}` });
    }
    await ada.sees(`number ${MESSAGES_MAX + 100}`);
    assert.deepEqual(await ada.seen(), numbers(101, MESSAGES_MAX + 100));
    await ada.page.getByRole("button", { name: "Earlier messages" }).click();
    await ada.bubbles("number 51").waitFor({ state: "attached" });
    assert.deepEqual(await ada.seen(), numbers(51, MESSAGES_MAX + 100));
    await ada.page.locator("#timeline").evaluate((node) => (node.scrollTop = node.scrollHeight));
    golem.say("lobby", { name: "Counter", text: `number ${MESSAGES_MAX + 101}` });
    await ada.sees(`number ${MESSAGES_MAX + 101}`);
    assert.deepEqual(await ada.seen(), numbers(102, MESSAGES_MAX + 101));
  });

  test("a page that is not drawn for a while says nothing wrong when it is", async () => {
    const golem = await visit.golemClient();
    const last = 2 * LAST + MESSAGES_MAX;
    const say = (from, to) => numbers(from, to).forEach((text) => golem.say("lobby", text));
    say(1, LAST);
    const [ada] = await visit.members(["Ada"], "lobby");
    await ada.sees(`number ${LAST}`);
    // The person has scrolled up, and then looks at something else.
    await ada.page.locator("#timeline").evaluate((node) => (node.scrollTop = 0));
    await ada.page.evaluate(() => {
      const draw = window.requestAnimationFrame;
      const frames = [];
      window.requestAnimationFrame = (frame) => frames.push(frame);
      window.comesBack = () => {
        window.requestAnimationFrame = draw;
        frames.forEach((frame) => draw(frame));
      };
    });
    await ada.page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
    say(LAST + 1, last);
    await ada.joins("tea");
    golem.say("tea", "the last one");
    await ada.page.evaluate(() => window.comesBack());
    await ada.sees("the last one");
    await ada.switchesTo("lobby");
    await ada.sees(`number ${last}`);
    // What was on the screen before has left with what was not drawn: nothing lies between.
    assert.deepEqual(await ada.seen(), numbers(last - MESSAGES_MAX + 1, last));
    await ada.page.getByRole("button", { name: "Earlier messages" }).click();
    await ada.bubbles(`number ${LAST + 1}`).waitFor({ state: "attached" });
  });

  test("a message that is refused says why, and can be sent again or put away", async () => {
    const [ada] = await visit.members(["Ada"], "lobby");
    await ada.saysWrongly("This one goes wrong");
    await ada.pending.getByText("Not sent: a room's name must not be empty.").waitFor();
    await ada.page.getByRole("button", { name: "Send again" }).click();
    await ada.sees("This one goes wrong");
    assert.equal(await ada.pending.count(), 0);
    await ada.saysWrongly("So does this one");
    await ada.page.getByRole("button", { name: "Remove" }).click();
    await ada.pending.waitFor({ state: "detached" });
    assert.deepEqual(await ada.seen(), ["This one goes wrong"]);
    assert.equal(await ada.page.evaluate(() => document.activeElement.id), "text");
  });

  test("an error from the server is shown, and can be put away", async () => {
    const [ada] = await visit.members(["Ada"], "lobby");
    // The page sends nothing that the server does not know; so it is made to.
    await ada.page.evaluate(() => {
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (data) {
        WebSocket.prototype.send = send;
        send.call(this, "dance {}");
        return send.call(this, data);
      };
    });
    await ada.says("May I?");
    const alert = ada.page.getByRole("alert").getByRole("paragraph");
    await alert.getByText(/^The server refused something: \S.*\.$/).waitFor();
    await ada.page.getByRole("button", { name: "Dismiss" }).click();
    await alert.waitFor({ state: "detached" });
    await ada.sees("May I?");
  });

  test("the page finds the WebSocket where the operator put it", async () => {
    const elsewhere = await Server.start({ THRONG_PATH: "/live/chat" });
    try {
      const ada = await visit.person(Person.address(elsewhere, "Ada", "lobby"));
      await elsewhere.reaches({ throng_members: 1 });
      await ada.says("found it");
      await ada.sees("found it");
      await ada.context.close();
      await elsewhere.reaches({ throng_connections: 0 });
    } finally {
      await elsewhere.stop();
    }
  });

  test("the page waits as long as the server asks, and says why", async () => {
    const { socket, sockets } = double();
    const reason = JSON.stringify({ reason: "slow_consumer", after_ms: 60_000 });
    const ada = await visit.person(server.url, { socket });
    sockets[0].close({ code: 4102, reason });
    await ada.page.getByText(/could not keep up .* Trying again in 6[01] s\./).waitFor();
    await ada.page.getByRole("button", { name: "Try now" }).click();
    await ada.isOnline();
    assert.equal(sockets.length, 2);
  });

  test("the page does not come back where it is told not to, until the person asks", async () => {
    const { socket, sockets } = double();
    const ada = await visit.person(server.url, { socket });
    sockets[0].close({ code: 4001, reason: JSON.stringify({ reason: "bad_credentials" }) });
    await ada.page
      .getByText("Bad credentials. You are offline. The server asked not to come back.")
      .waitFor();
    const status = ada.page.getByRole("status");
    assert.equal(await status.textContent(), "Stopped. Bad credentials.");
    await ada.page.getByRole("button", { name: "Try now" }).click();
    await ada.isOnline();
    assert.equal(await status.textContent(), "Online");
    assert.equal(sockets.length, 2);
  });

  test("a message of which nothing is known is one message, also if it is sent again", async () => {
    const position = { epoch: "e", offset: 0 };
    const keys = [];
    const { socket, sockets } = double((ws, event, { id, room, to, key, msg }, connection) => {
      if (event === "join") {
        const replay = { position: { ...position, offset: connection - 1 }, first: connection };
        ws.send(`joined ${JSON.stringify({ id, room, ...replay, recovered: true })}`);
      }
      if (event !== "msg") return;
      keys.push(key);
      // It has arrived, and the first time nobody learns of it.
      const from = "double-1";
      if (connection === 1) {
        ws.send(`msg ${JSON.stringify({ room: to, offset: 1, from, at: 1, msg })}`);
        ws.close({ code: 4001, reason: "" });
      } else {
        const place = { epoch: "e", offset: 1 };
        ws.send(`ack ${JSON.stringify({ id, room: to, position: place, duplicate: true })}`);
      }
    });
    const ada = await visit.person(Person.address(server, "Ada", "lobby"), { socket });
    await ada.says("Did you get this?");
    await ada.pending.getByText("Not confirmed: it may have arrived.").waitFor();
    await ada.says("And this?");
    await ada.pending.getByText("Not sent: there is no connection.").waitFor();
    await ada.page.getByRole("button", { name: "Remove" }).last().click();
    await ada.page.getByRole("button", { name: "Try now" }).click();
    await ada.isOnline();
    await ada.page.getByRole("button", { name: "Send again" }).click();
    await ada.pending.waitFor({ state: "detached" });
    assert.deepEqual(await ada.seen(), ["Did you get this?"]);
    assert.equal(sockets.length, 2);
    assert.equal(keys.length, 2);
    assert.equal(keys[0], keys[1]);
  });

  test("a room that the server refuses is taken off the list, and the person is told", async () => {
    await visit.restart({ THRONG_MAX_ROOMS_PER_CONNECTION: "1" });
    ({ server } = visit);
    const ada = await visit.person(Person.address(server, "Ada", "lobby"));
    await server.reaches({ throng_members: 1 });
    await ada.page.getByLabel("Room to join").fill("tea");
    await ada.page.getByRole("button", { name: "Join the room" }).click();
    await ada.page.getByRole("alert").getByText(/^Could not join tea: \S.*\.$/).waitFor();
    assert.deepEqual(await ada.page.locator(".room-name").allTextContents(), ["lobby"]);
    await ada.says("Here I stay");
    await ada.sees("Here I stay");
  });

  test("a server that does not speak throng.v1 is said not to be understood", async () => {
    const socket = (ws) => ws.send('msg "hi"');
    const ada = await Person.at(browser, server.url, { socket });
    await ada.page.getByRole("alert").getByText(/^The server is not understood: /).waitFor();
    await ada.context.close();
  });

  test("the page in the client's README works as it is", async () => {
    const readme = readFileSync(new URL("../../../../clients/js/README.md", import.meta.url), "utf8");
    const [, example] = /```html\n([^]*?)```/.exec(readme);
    const ada = await visit.person(server.url);
    const golem = await visit.golemClient();
    golem.say("lobby", "said before");
    await golem.settle();
    await ada.page.route(/\/example$/, (route) =>
      route.fulfill({ contentType: "text/html", body: `<!doctype html>${example}` }),
    );
    await ada.page.goto(new URL("example", server.url).href);
    await ada.page.locator("#lines").getByText("said before").waitFor();
    await ada.page.locator("#text").fill("hello from a page");
    await ada.page.keyboard.press("Enter");
    await ada.page.locator("#lines").getByText("hello from a page").waitFor();
    ada.complaints = ada.complaints.filter((text) => !text.includes("favicon"));
  });

  test("a whole visit works from the keyboard alone", async () => {
    const ada = await visit.person(server.url);
    await ada.page.keyboard.type("Ada");
    await ada.page.keyboard.press("Enter");
    await server.reaches({ throng_members: 1 });
    await ada.page.keyboard.type("first line");
    await ada.page.keyboard.press("Shift+Enter");
    await ada.page.keyboard.type("second line");
    await ada.page.keyboard.press("Enter");
    await ada.sees("first line\nsecond line");
    await ada.page.locator("#leave").focus();
    await ada.page.keyboard.press("Enter");
    await server.reaches({ throng_members: 0 });
    await ada.page.keyboard.press("Enter");
    await server.reaches({ throng_members: 1 });
  });

  const scripts = ["", "-message", "-outgoing", "-timeline", "-typing"].map((s) => `chat${s}.js`);
  for (const path of ["", "chat.css", ...scripts, "throng.js", "icon.svg"]) {
    test(`/${path} comes with its type and a policy that lets nothing else in`, async () => {
      const response = await fetch(new URL(path, server.url));
      assert.equal(response.status, 200);
      const type = { css: "text/css", js: "text/javascript", svg: "image/svg+xml" }[
        path.split(".")[1]
      ];
      assert.equal(response.headers.get("content-type").split(";")[0], type ?? "text/html");
      assert.match(response.headers.get("content-security-policy"), /default-src 'self'/);
      assert.equal(response.headers.get("x-content-type-options"), "nosniff");
    });
  }

  test("/throng.js is the client of this repository, to the byte", async () => {
    const served = await fetch(new URL("throng.js", server.url));
    const built = new URL("../../../../clients/js/dist/throng.js", import.meta.url);
    assert.equal(await served.text(), readFileSync(built, "utf8"));
  });

  const screens = {
    desktop: { viewport: { width: 1200, height: 800 } },
    phone: {
      viewport: { width: 390, height: 844 },
      isMobile: true,
      hasTouch: true,
      deviceScaleFactor: 2,
    },
    narrow: {
      viewport: { width: 360, height: 640 },
      isMobile: true,
      hasTouch: true,
      deviceScaleFactor: 2,
    },
  };
  for (const [screen, options] of Object.entries(screens)) {
    for (const colorScheme of ["light", "dark"]) {
      test(`nothing sticks out of the page: ${screen}, ${colorScheme}`, async () => {
        const ada = await visit.person(server.url, { ...options, colorScheme });
        const picture = (name) => ada.screenshot(`${screen}-${colorScheme}-${name}`);
        const fits = async () => {
          const [content, window] = await ada.page.evaluate(() => [
            document.documentElement.scrollWidth,
            innerWidth,
          ]);
          assert.ok(content <= window, `${content} pixels in a window of ${window}`);
        };
        await fits();
        await picture("welcome");

        const network = await visit.network();
        await ada.page.goto(Person.address(network, "Ada Lovelace", "lobby", "tea", "engine-room"));
        await ada.isOnline();
        await server.reaches({ throng_members: 3 });
        const others = await visit.golemClient();
        await conversation(ada, others, network);
        await fits();
        await picture("room");

        if (screen !== "desktop") {
          await ada.page.getByRole("button", { name: /^Rooms/ }).click();
          await ada.page.getByRole("button", { name: "Close the list of rooms" }).waitFor();
          await fits();
          await picture("drawer");
          await ada.page.keyboard.press("Escape");
        }
        others.say("lobby", "x".repeat(300));
        others.say("lobby", { name: "N".repeat(200), text: "A long name" });
        await ada.sees("A long name");
        await ada.saysWrongly("Does this one arrive?");
        await ada.page.getByRole("button", { name: "Send again" }).waitFor();
        network.cut();
        await ada.isOffline();
        await ada.says("And this one?");
        await ada.pending.getByText("Waiting until you are back online.").waitFor();
        await fits();
        await picture("trouble");
        network.heal();
        await ada.sees("And this one?");
      });
    }
  }
});

/** A conversation to look at, with a little of everything. */
async function conversation(ada, others, network) {
  const say = (name, text, room = "lobby") => others.say(room, { name, text });
  say(
    "Charles Babbage",
    "Good morning! The mill ran through the night without a single carry lost.",
  );
  say("Charles Babbage", "1,000 members, one publication, the same bytes to everyone.");
  await ada.sees("1,000 members, one publication, the same bytes to everyone.");
  await ada.says("Wonderful. How long did the last one wait?");
  await ada.sees("Wonderful. How long did the last one wait?");
  network.cut();
  await ada.isOffline();
  say("Mary Somerville", "Six milliseconds, and every one of them saw the same order.");
  say("Mary Somerville", "The tables are at https://example.org/engine/tables");
  await others.settle();
  network.heal();
  await ada.isTold(missed(2));
  say("Σοφία", "Ωραία! Το δοκιμάζουμε ξανά το απόγευμα.");
  await ada.sees("Ωραία! Το δοκιμάζουμε ξανά το απόγευμα.");
  await ada.says("Then let us print them.\nI bring the paper, who brings the ink?");
  await ada.sees("Then let us print them.\nI bring the paper, who brings the ink?");
  others.say("lobby", { temperature: 21.5, unit: "C" });
  await ada.page.locator(".bubble.data").waitFor();
  say("Charles Babbage", "I do.");
  await ada.sees("I do.");
  say("Mary Somerville", "Tea is ready", "tea");
  say("Mary Somerville", "…and getting cold", "tea");
  await ada.page.locator('.badge[aria-label="2 unread"]').waitFor({ state: "attached" });
}

/** What counts from one number to another. */
function numbers(from, to) {
  return Array.from({ length: to - from + 1 }, (_, index) => `number ${from + index}`);
}
