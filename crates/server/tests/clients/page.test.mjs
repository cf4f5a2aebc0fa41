/**
 * @file The chat page in a real browser: what a person does with it, and what must never happen.
 *
 * `CHROMIUM` names the browser (default: /usr/bin/chromium). The tests take pictures of what they
 * see, into the folder `THRONG_SCREENSHOTS` (default: target/screenshots of the repository).
 */

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join as joinPath } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Client } from "./client.mjs";
import { Server, TIMEOUT_MS } from "./server.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS =
  process.env.THRONG_SCREENSHOTS ??
  fileURLToPath(new URL("../../../../target/screenshots", import.meta.url));
const BROWSER_ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** What chat.js keeps of one room. */
const MESSAGES_MAX = 500;

/** One person at one tab of a browser that nobody else uses. */
class Person {
  /** Console errors, uncaught exceptions and refused content: there must be none. */
  complaints = [];

  constructor(context, page) {
    this.context = context;
    this.page = page;
    page.setDefaultTimeout(TIMEOUT_MS);
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") {
        this.complaints.push(message.text());
      }
    });
  }

  /** @returns {Promise<Person>} */
  static async at(browser, url, options = {}) {
    const { socket, ...rest } = options;
    const context = await browser.newContext(rest);
    // A server of our own behind the page's WebSocket, for what a real one does seldom.
    if (socket) await context.routeWebSocket(/\/ws$/, socket);
    const person = new Person(context, await context.newPage());
    await person.page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (violation) =>
        console.error(`refused ${violation.violatedDirective}: ${violation.blockedURI}`),
      );
    });
    await person.page.goto(url);
    return person;
  }

  /** The address that joins these rooms under this name. */
  static address(server, name, ...rooms) {
    const url = new URL(server.url);
    url.searchParams.set("name", name);
    for (const room of rooms) url.searchParams.append("room", room);
    return url.href;
  }

  async isOnline() {
    await this.page.locator('#status[data-state="open"]').waitFor();
  }

  async isOffline() {
    await this.page.locator('#status[data-state="waiting"]').waitFor();
  }

  async says(text) {
    await this.page.getByLabel("Message", { exact: true }).fill(text);
    await this.page.getByRole("button", { name: "Send the message" }).click();
  }

  /** As `says`, but what is sent is nonsense. The page itself sends none; so it is made to. */
  async saysWrongly(text) {
    await this.page.evaluate(() => {
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function () {
        WebSocket.prototype.send = send;
        return send.call(this, 'msg {"to":7}');
      };
    });
    await this.says(text);
  }

  /** Waits until the room on the screen shows this text in a bubble of its own. */
  async sees(text) {
    await this.bubbles(text).waitFor();
  }

  bubbles(text) {
    return this.page
      .locator("#timeline .message:not(.pending) .bubble")
      .getByText(text, { exact: true });
  }

  /** Every bubble on the screen, in order. */
  async seen() {
    return this.page.locator("#timeline .message:not(.pending) .bubble").allTextContents();
  }

  async joins(room) {
    await this.page.getByLabel("Room to join").fill(room);
    await this.page.getByRole("button", { name: "Join the room" }).click();
    await this.page.locator("#title-room").getByText(room, { exact: true }).waitFor();
  }

  async switchesTo(room) {
    await this.page.locator("#rooms .room").filter({ hasText: room }).click();
    await this.page.locator("#title-room").getByText(room, { exact: true }).waitFor();
  }

  async leaves() {
    await this.page.getByRole("button", { name: "Leave this room" }).click();
  }

  async screenshot(name) {
    await this.page.screenshot({
      path: joinPath(SCREENSHOTS, `${name}.png`),
      animations: "disabled",
    });
  }
}

describe("the chat page", () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  /** @type {Server} */
  let server;
  /** @type {Person[]} Everybody at the page in this test. */
  let present = [];
  /** @type {Client[]} And the programs without a page. */
  let programs = [];

  before(async () => {
    mkdirSync(SCREENSHOTS, { recursive: true });
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      headless: true,
      args: BROWSER_ARGS,
    });
    server = await Server.start();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  // Everybody goes when the test ends, and must have had nothing to complain about.
  afterEach(async () => {
    const complaints = present.flatMap((person) => person.complaints);
    await Promise.all(programs.map((program) => program.end()));
    await Promise.all(present.map(({ context }) => context.close()));
    present = [];
    programs = [];
    assert.deepEqual(complaints, []);
    await server.reaches({ throng_connections: 0, throng_rooms: 0, throng_members: 0 });
  });

  async function person(address, options) {
    const found = await Person.at(browser, address, options);
    present.push(found);
    await found.isOnline();
    return found;
  }

  /** People who are members of these rooms. */
  async function members(names, ...rooms) {
    const all = await Promise.all(
      names.map((name) => person(Person.address(server, name, ...rooms))),
    );
    await server.reaches({ throng_members: names.length * rooms.length });
    return all;
  }

  /** A program that speaks golem's wire and knows nothing of this page. */
  async function golemClient() {
    const program = await Client.connect(server);
    programs.push(program);
    return program;
  }

  test("a newcomer gives a name and joins the lobby with one click", async () => {
    const ada = await person(server.url);
    await ada.page.getByLabel("Your name").last().fill("Ada");
    await ada.page.getByRole("button", { name: "Join lobby" }).click();
    await server.reaches({ throng_connections: 1, throng_rooms: 1, throng_members: 1 });
    await ada.says("Hello?");
    await ada.sees("Hello?");
    assert.equal(await ada.page.title(), "lobby – Throng");
  });

  test("the name is remembered, and a link with rooms joins them", async () => {
    const [ada] = await members(["Ada"], "lobby", "tea");
    assert.equal(new URL(ada.page.url()).search, "?room=lobby&room=tea");
    await ada.page.reload();
    await ada.isOnline();
    await server.reaches({ throng_connections: 1, throng_rooms: 2, throng_members: 2 });
    assert.equal(await ada.page.locator("#person-name").inputValue(), "Ada");
    assert.equal(await ada.page.locator("#title-room").textContent(), "lobby");
  });

  test("two people in one room talk both ways, and each knows who said what", async () => {
    const [ada, ben] = await members(["Ada", "Ben"], "lobby");
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
    const [ada, ben] = await members(["Ada", "Ben"], "lobby");
    const cleo = await person(Person.address(server, "Cleo", "library"));
    await server.reaches({ throng_members: 3, throng_rooms: 2 });
    await ada.says("Only for the lobby");
    await ben.sees("Only for the lobby");
    await cleo.says("Only for the library");
    await cleo.sees("Only for the library");
    assert.deepEqual(await cleo.seen(), ["Only for the library"]);
    assert.deepEqual(await ada.seen(), ["Only for the lobby"]);
  });

  test("messages of another room are counted until one looks", async () => {
    const [ada] = await members(["Ada"], "lobby", "tea");
    const ben = await person(Person.address(server, "Ben", "tea"));
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
    const [ada, ben] = await members(["Ada", "Ben"], "lobby", "tea");
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
    const [ada, ben] = await members(["Ada", "Ben"], "lobby");
    await server.reaches({ throng_connections: 2, throng_rooms: 1, throng_members: 2 });
    await ben.page.close();
    await server.reaches({ throng_connections: 1, throng_rooms: 1, throng_members: 1 });
    await ada.page.close();
    await server.reaches({ throng_connections: 0, throng_rooms: 0, throng_members: 0 });
  });

  test("a hostile message is text, whoever sends it", async () => {
    const [ada, ben] = await members(["Ada", "Ben"], "lobby");
    const hostile = '<img src=x onerror="document.title=1">';
    await ben.says(hostile);
    await ada.sees(hostile);
    const stranger = await golemClient();
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

  test("what a golem client says is shown, also without a room", async () => {
    const [ada] = await members(["Ada"], "lobby");
    const golem = await golemClient();
    golem.say("lobby", "a plain string");
    await ada.sees("a plain string");
    assert.equal(await ada.page.locator(".origin").count(), 0);
    await ada.joins("tea");
    await server.reaches({ throng_members: 2 });
    golem.say("lobby", 42);
    await ada.sees("42");
    await ada.page.locator(".origin").getByText("room not stated").waitFor();
    golem.say("lobby", { room: "elsewhere", text: "mislabelled", name: 7, time: {} });
    await ada.sees("mislabelled");
    await ada.page.locator(".origin").getByText("says room “elsewhere”").waitFor();
    await ada.switchesTo("lobby");
    assert.deepEqual(await ada.seen(), ["a plain string", "42", "mislabelled"]);
  });

  test("nobody can pass for the person at the page", async () => {
    const [ada] = await members(["Ada"], "lobby");
    const sent = ada.page.waitForEvent("console", {
      predicate: (line) => line.text().startsWith("msg "),
    });
    await ada.page.evaluate(() => {
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (data) {
        console.log(data);
        return send.call(this, data);
      };
    });
    await ada.says("It is me");
    await ada.sees("It is me");
    const { to, msg } = JSON.parse((await sent).text().slice("msg ".length));
    const copycat = await golemClient();
    copycat.say(to, { ...msg, text: "It is me again" });
    await ada.sees("It is me again");
    assert.equal(await ada.page.locator(".message.own").count(), 1);
  });

  test("a timeline keeps its last messages and no more", async () => {
    const [ada] = await members(["Ada"], "lobby");
    const golem = await golemClient();
    for (let number = 1; number <= MESSAGES_MAX + 100; number += 1) {
      golem.say("lobby", { room: "lobby", name: "Counter", text: `number ${number}` });
    }
    await ada.sees(`number ${MESSAGES_MAX + 100}`);
    const seen = await ada.seen();
    assert.equal(seen.length, MESSAGES_MAX);
    assert.equal(seen[0], "number 101");
  });

  test("an error from the server is shown, and can be put away", async () => {
    const [ada] = await members(["Ada"], "lobby");
    await ada.saysWrongly("This one goes wrong");
    const alert = ada.page.getByRole("alert").getByRole("paragraph");
    await alert.waitFor();
    assert.match(await alert.textContent(), /\S/);
    await ada.page.getByRole("button", { name: "Dismiss" }).click();
    await alert.waitFor({ state: "detached" });
    await ada.page.getByRole("button", { name: "Send again" }).click();
    await ada.sees("This one goes wrong");
    assert.equal(await ada.page.locator(".message.pending").count(), 0);
  });

  test("the page comes back to its rooms when the server does", async () => {
    const [ada, ben] = await members(["Ada", "Ben"], "lobby", "tea");
    await ada.says("Before");
    await ben.sees("Before");
    const { address } = server;
    await server.stop();
    await Promise.all([ada.isOffline(), ben.isOffline()]);
    await ada.page.getByText(/Trying again in \d+ s\./).waitFor();
    await ada.says("Is anybody there?");
    await ada.page
      .getByRole("alert")
      .getByText(/^You are offline\. Your message stays here/)
      .waitFor();
    assert.equal(
      await ada.page.getByLabel("Message", { exact: true }).inputValue(),
      "Is anybody there?",
    );
    await ada.screenshot("desktop-light-offline");
    // A browser says on its console that a server does not answer, and no page can keep it from it.
    const beside = ({ complaints }) =>
      complaints.filter((text) => !text.includes("ERR_CONNECTION_REFUSED"));

    server = await Server.start({ THRONG_LISTEN: address });
    await Promise.all([ada.isOnline(), ben.isOnline()]);
    await server.reaches({ throng_connections: 2, throng_rooms: 2, throng_members: 4 });
    await ada.page.getByText("Back online. What was said in between is not shown.").waitFor();
    await ada.says("After");
    await ben.sees("After");
    await ben.says("Welcome back");
    await ada.sees("Welcome back");
    for (const person of [ada, ben]) person.complaints = beside(person);
  });

  test("the page finds the WebSocket where the operator put it", async () => {
    const elsewhere = await Server.start({ THRONG_PATH: "/live/chat" });
    try {
      const ada = await person(Person.address(elsewhere, "Ada", "lobby"));
      await elsewhere.reaches({ throng_members: 1 });
      await ada.says("found it");
      await ada.sees("found it");
      await ada.context.close();
    } finally {
      await elsewhere.stop();
    }
  });

  test("a message whose delivery was not seen is marked when the connection is lost", async () => {
    let sockets = 0;
    const socket = (ws) => {
      sockets += 1;
      ws.onMessage((frame) => frame.startsWith("msg ") && ws.close({ code: 1001 }));
    };
    const ada = await person(Person.address(server, "Ada", "lobby"), { socket });
    await ada.says("Lost?");
    await ada.page.getByText("Not confirmed.").waitFor();
    await ada.isOnline();
    assert.equal(sockets, 2);
    await ada.page.getByRole("button", { name: "Remove" }).click();
    await ada.page.locator(".message").waitFor({ state: "detached" });
  });

  test("the page waits as long as the server asks, and says why", async () => {
    const reason = JSON.stringify({ reason: "slow_consumer", after_ms: 60_000 });
    const sockets = [];
    const ada = await person(server.url, { socket: (ws) => sockets.push(ws) });
    sockets[0].close({ code: 4100, reason });
    await ada.page.getByText(/could not keep up .* Trying again in 6[01] s\./).waitFor();
    await ada.page.getByRole("button", { name: "Try now" }).click();
    await ada.isOnline();
    assert.equal(sockets.length, 2);
  });

  test("the page does not come back where it is told not to, until the person asks", async () => {
    const sockets = [];
    const ada = await person(server.url, { socket: (ws) => sockets.push(ws) });
    sockets[0].close({ code: 4001, reason: JSON.stringify({ reason: "bad_credentials" }) });
    await ada.page
      .getByText("Bad credentials. You are offline. The server asked not to come back.")
      .waitFor();
    await ada.page.getByRole("button", { name: "Try now" }).click();
    await ada.isOnline();
    assert.equal(sockets.length, 2);
  });

  test("a room that the server refuses is taken off the list, and the person is told", async () => {
    const joins = [];
    const socket = (ws) =>
      ws.onMessage((frame) => {
        joins.push(frame);
        if (!frame.includes("secret")) return;
        ws.send(
          'error {"event":"join","code":"forbidden","message":"Not for you.","room":"secret"}',
        );
      });
    const ada = await person(Person.address(server, "Ada", "lobby"), { socket });
    await ada.page.getByLabel("Room to join").fill("secret");
    await ada.page.getByRole("button", { name: "Join the room" }).click();
    await ada.page.getByRole("alert").getByText("Could not join secret: Not for you.").waitFor();
    assert.deepEqual(await ada.page.locator(".room-name").allTextContents(), ["lobby"]);
    assert.deepEqual(joins, ['join {"name":"lobby"}', 'join {"name":"secret"}']);
  });

  test("throng.js: a callback that throws stops neither the others nor the connection", async () => {
    const ada = await person(server.url);
    const heard = await ada.page.evaluate(async () => {
      const { Connection } = await import("/throng.js");
      const connection = new Connection("/ws");
      const heard = [];
      const refused = connection.emit("msg", { to: "tea", msg: "too early" });
      connection.on("msg", () => {
        throw new Error("a bug of the page");
      });
      const both = new Promise((resolve) => {
        connection.on("msg", (msg) => heard.push(msg) === 2 && resolve());
      });
      connection.join("tea");
      connection.on("open", () => {
        connection.emit("msg", { to: "tea", msg: "first" });
        connection.emit("msg", { to: "tea", msg: "second" });
      });
      await both;
      connection.close();
      return { heard, refused, state: connection.state };
    });
    assert.deepEqual(heard, { heard: ["first", "second"], refused: false, state: "closed" });
    assert.deepEqual(ada.complaints, ["Error: a bug of the page", "Error: a bug of the page"]);
    ada.complaints = [];
  });

  test("a whole visit works from the keyboard alone", async () => {
    const ada = await person(server.url);
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

  for (const path of ["", "chat.css", "chat.js", "chat-message.js", "throng.js", "icon.svg"]) {
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
        const ada = await person(server.url, { ...options, colorScheme });
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

        await ada.page.goto(Person.address(server, "Ada Lovelace", "lobby", "tea", "engine-room"));
        await ada.isOnline();
        await server.reaches({ throng_members: 3 });
        const others = await golemClient();
        await conversation(ada, others);
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
        others.say("lobby", {
          room: "lobby",
          name: "N".repeat(200),
          text: "A long name",
          time: "never",
        });
        await ada.sees("A long name");
        await ada.saysWrongly("Does this one arrive?");
        await ada.page.getByRole("button", { name: "Send again" }).waitFor();
        await fits();
        await picture("trouble");
      });
    }
  }
});

/** A conversation to look at, with a little of everything. */
async function conversation(ada, others) {
  const say = (name, text, room = "lobby") =>
    others.say(room, { room, name, text, time: new Date().toISOString() });
  say(
    "Charles Babbage",
    "Good morning! The mill ran through the night without a single carry lost.",
  );
  say("Charles Babbage", "1,000 members, one publication, the same bytes to everyone.");
  await ada.sees("1,000 members, one publication, the same bytes to everyone.");
  await ada.says("Wonderful. How long did the last one wait?");
  await ada.sees("Wonderful. How long did the last one wait?");
  say("Mary Somerville", "Six milliseconds, and every one of them saw the same order.");
  say("Mary Somerville", "The tables are at https://example.org/engine/tables");
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
