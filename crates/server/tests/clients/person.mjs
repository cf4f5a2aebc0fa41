/**
 * @file People at the chat page in a real browser, and what a test needs around them.
 *
 * `CHROMIUM` names the browser (default: /usr/bin/chromium). The tests take pictures of what they
 * see, into the folder `THRONG_SCREENSHOTS` (default: target/screenshots of the repository).
 */

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join as joinPath } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Client } from "./client.mjs";
import { Network } from "./network.mjs";
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
  // A page that a test makes up is from nowhere, and could not ask for anything on this machine.
  "--disable-features=LocalNetworkAccessChecks",
];
/** What a browser says on its console of a server that is not there; no page can keep it from it. */
const UNREACHABLE = /^(WebSocket connection to \S+ failed|Failed to load resource: net::ERR_)/;

/** Starts the browser that all tests of a file share. */
export async function launchBrowser() {
  mkdirSync(SCREENSHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args: BROWSER_ARGS });
}

/** What a line says of so many messages that came while one was away, in {@link Person#timeline}. */
export function missed(count) {
  const messages = count === 1 ? "1 message" : `${count} messages`;
  return `You were away for N s; ${messages} came meanwhile.`;
}

/** As a regular expression; the `N` of {@link missed} is any number. */
function escape(line) {
  return line.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace("for N s;", "for \\d+ s;");
}

/** One person at one tab. */
export class Person {
  /** Console errors, uncaught exceptions and refused content: there must be none. */
  complaints = [];
  /** What the page has said on its console. */
  lines = [];

  constructor(context, page) {
    this.context = context;
    this.page = page;
    page.setDefaultTimeout(TIMEOUT_MS);
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("console", (message) => {
      const isComplaint = message.type() === "error" || message.type() === "warning";
      if (message.type() === "log") this.lines.push(message.text());
      if (isComplaint && !UNREACHABLE.test(message.text())) this.complaints.push(message.text());
    });
  }

  /**
   * In a browser that nobody else uses.
   *
   * @returns {Promise<Person>}
   */
  static async at(browser, url, options = {}) {
    const { socket, ...rest } = options;
    const context = await browser.newContext(rest);
    // Something between the page and the server, for what a real one does seldom.
    if (socket) await context.routeWebSocket(/\/ws$/, socket);
    return Person.inTab(context, url);
  }

  /** In another tab of a browser. */
  static async inTab(context, url) {
    const person = new Person(context, await context.newPage());
    await person.page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (violation) =>
        console.error(`refused ${violation.violatedDirective}: ${violation.blockedURI}`),
      );
    });
    await person.page.goto(url);
    return person;
  }

  /** The address that joins these rooms under this name, at a server or by way of a network. */
  static address({ url: base }, name, ...rooms) {
    const url = new URL(base);
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

  /** From now on, what the page says of being offline is noted: a short pause is over before one looks. */
  async notesBeingOffline() {
    await this.page.evaluate(() => {
      const line = document.getElementById("offline-text");
      globalThis.saidOfBeingOffline = [];
      const note = () => globalThis.saidOfBeingOffline.push(line.textContent);
      new MutationObserver(note).observe(line, { childList: true, characterData: true, subtree: true });
    });
  }

  /** What {@link notesBeingOffline} has noted. */
  async saidOfBeingOffline() {
    return this.page.evaluate(() => globalThis.saidOfBeingOffline);
  }

  async says(text) {
    await this.page.getByLabel("Message", { exact: true }).fill(text);
    await this.page.getByRole("button", { name: "Send the message" }).click();
  }

  /** As `says`, but the server refuses it. The page sends nothing wrong; so it is made to. */
  async saysWrongly(text) {
    await this.page.evaluate(() => {
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (data) {
        if (!data.startsWith("msg ")) return send.call(this, data);
        WebSocket.prototype.send = send;
        return send.call(this, data.replace(/"to":"[^"]*"/, '"to":""'));
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

  /** Messages of this person that do not stand in the timeline yet. */
  get pending() {
    return this.page.locator("#timeline .message.pending");
  }

  /** Waits until a line between the messages says this. */
  async isTold(line) {
    const text = typeof line === "string" ? new RegExp(`^${escape(line)}$`) : line;
    await this.page.locator("#timeline .line").getByText(text).waitFor();
  }

  /** Every bubble on the screen, in order. */
  async seen() {
    return this.page.locator("#timeline .message:not(.pending) .bubble").allTextContents();
  }

  /** Every bubble and every line on the screen, in order; how long one was away is `N`. */
  async timeline() {
    const all = await this.page
      .locator("#timeline .message .bubble, #timeline .line > span, #timeline .line:not(:has(span))")
      .allTextContents();
    return all.map((text) => text.replace(/^You were away for \d+ s;/, "You were away for N s;"));
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

/** One test's server, and everybody who visits it. */
export class Visit {
  /** @type {Server} */
  server;
  #browser;
  #people = [];
  #programs = [];
  #networks = [];

  /**
   * @param {import("playwright-core").Browser} browser
   * @param {Record<string, string>} [env] Settings of the server.
   */
  static async begin(browser, env) {
    const visit = new Visit();
    visit.#browser = browser;
    visit.server = await Server.start(env);
    return visit;
  }

  /** Somebody at this address, whose page is connected. */
  async person(address, options) {
    return this.#arrives(await Person.at(this.#browser, address, options));
  }

  /** The same person in another tab. */
  async tab(person, address) {
    return this.#arrives(await Person.inTab(person.context, address));
  }

  /** People who are members of these rooms. */
  async members(names, ...rooms) {
    const all = await Promise.all(
      names.map((name) => this.person(Person.address(this.server, name, ...rooms))),
    );
    await this.server.reaches({ throng_members: names.length * rooms.length });
    return all;
  }

  /** A program that speaks golem's wire and knows nothing of the page. */
  async golemClient() {
    const program = await Client.connect(this.server);
    this.#programs.push(program);
    return program;
  }

  /** A way to the server that can be cut. */
  async network() {
    const network = await Network.to(this.server);
    this.#networks.push(network);
    return network;
  }

  /** The server stops, as an operator stops it, and another one begins in its place. */
  async restart(env, meanwhile = () => {}) {
    const { address } = this.server;
    await this.server.stop();
    await meanwhile();
    this.server = await Server.start({ THRONG_LISTEN: address, ...env });
  }

  /** Everybody goes, and must have had nothing to complain about; the server is left as it was. */
  async end() {
    const complaints = this.#people.flatMap((person) => person.complaints);
    await Promise.all(this.#programs.map((program) => program.end()));
    await Promise.all(this.#people.map(({ context }) => context.close()));
    await Promise.all(this.#networks.map((network) => network.stop()));
    await this.server.reaches({ throng_connections: 0, throng_rooms: 0, throng_members: 0 });
    await this.server.stop();
    assert.deepEqual(complaints, []);
  }

  async #arrives(person) {
    this.#people.push(person);
    await person.isOnline();
    return person;
  }
}
