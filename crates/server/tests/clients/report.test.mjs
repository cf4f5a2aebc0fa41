/**
 * @file The load generator's page in a real browser: what it shows of a run, and that it says
 * nothing where nothing was measured, fetches nothing, and runs nothing that a server sent.
 *
 * The generator is beside the server that `THRONG_BIN` names. `CHROMIUM` and `THRONG_SCREENSHOTS`
 * are as for the chat page.
 */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join as joinPath } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { WebSocketServer } from "ws";
import * as reports from "./reports.mjs";
import { Server, TIMEOUT_MS, within } from "./server.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SCREENSHOTS =
  process.env.THRONG_SCREENSHOTS ??
  fileURLToPath(new URL("../../../../target/screenshots", import.meta.url));
const LOADTEST = joinPath(dirname(process.env.THRONG_BIN ?? ""), "loadtest");
const DESKTOP = { viewport: { width: 1280, height: 900 } };
const VIEWS = {
  light: DESKTOP,
  dark: { ...DESKTOP, colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true },
};

describe("the load generator's page", () => {
  /** @type {import("playwright-core").Browser} */
  let browser;
  let folder;
  /** The page of a run against a real server, as the generator wrote it. */
  let real;
  let complaints = [];

  before(async () => {
    mkdirSync(SCREENSHOTS, { recursive: true });
    folder = mkdtempSync(joinPath(tmpdir(), "throng-report-"));
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ["--no-sandbox", "--disable-gpu"],
    });
    const server = await Server.start();
    try {
      real = await load(server.wsUrl, 0);
    } finally {
      await server.stop();
    }
  });
  after(async () => {
    await browser?.close();
    if (folder) rmSync(folder, { recursive: true });
  });
  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()));
    assert.deepEqual(complaints.splice(0), []);
  });

  /** Runs the generator, which must end with this code, and returns its page. */
  async function load(url, code) {
    const path = joinPath(folder, "run.html");
    const flags = [
      "--url",
      url,
      "--members",
      "20",
      "--seconds",
      "0.5",
      "--warmup",
      "0.1",
      "--html",
      path,
    ];
    const exit = new Promise((resolve) => {
      execFile(LOADTEST, flags, (error, stdout, stderr) => resolve([error?.code ?? 0, stderr]));
    });
    assert.deepEqual(await within("the generator", exit), [code, ""]);
    return readFileSync(path, "utf8");
  }

  /** The real page with another report in it. */
  function pageOf(report) {
    const json = JSON.stringify(report).replaceAll("<", "\\u003c");
    return real.replace(
      /(<script id="report"[^>]*>).*?(?=<\/script>)/s,
      (_, start) => start + json,
    );
  }

  /** Opens a page from its file; what it complains of and asks the network for is collected. */
  async function open(html, view = DESKTOP) {
    const path = joinPath(folder, "page.html");
    writeFileSync(path, html);
    const url = pathToFileURL(path).href;
    const page = await (await browser.newContext(view)).newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => complaints.push(message.text()));
    page.on("request", (request) => {
      const isOwn = request.url() === url || request.url().startsWith("data:");
      if (!isOwn) complaints.push(`asked for ${request.url()}`);
    });
    await page.goto(url);
    return page;
  }

  /** Nothing is shown of what is not there, and nothing is wider than the screen. */
  async function isTidy(page, name) {
    const words = await page.locator("body").innerText();
    assert.doesNotMatch(words, /NaN|undefined|null|Infinity|\[object|Invalid/, name);
    const [wide, width] = await page.evaluate(() => [
      document.documentElement.scrollWidth,
      innerWidth,
    ]);
    assert.ok(wide <= width, `${name} is ${wide} pixels wide, on ${width}`);
  }

  /** The headings of the plots, each of which must have something drawn in it. */
  async function plots(page) {
    return page.evaluate(() =>
      [...document.querySelectorAll(".card:has(canvas)")].map((card) => {
        const canvas = card.querySelector("canvas");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const heading = card.querySelector("h3").textContent;
        return data.some((byte) => byte > 0) ? heading : `${heading} is blank`;
      }),
    );
  }

  const overTime = ["Latency", "CPU", "Deliveries", "Publications", "Server memory"];
  const expected = {
    whole: ["Latency by percentile", ...overTime],
    faulty: ["Latency by percentile", ...overTime, "Connections", "Lost deliveries"],
    knee: ["p99 by rate", "Latency by percentile", ...overTime],
    neighbour: ["Latency by percentile", ...overTime],
    soak: ["Latency by percentile", ...overTime],
    idle: [],
  };
  for (const [name, headings] of Object.entries(expected)) {
    for (const [view, options] of Object.entries(VIEWS)) {
      test(`the report "${name}" is drawn whole: ${view}`, async () => {
        const page = await open(pageOf(reports[name]), options);
        assert.deepEqual(await plots(page), headings);
        await isTidy(page, name);
        await page.screenshot({
          path: joinPath(SCREENSHOTS, `report-${name}-${view}.png`),
          fullPage: true,
        });
      });
    }
  }

  test("a real run is shown with its figures", async () => {
    const page = await open(real);
    await isTidy(page, "a real run");
    await page.getByText("Every delivery arrived once, whole and in order.").waitFor();
    for (const name of ["Deliveries per second", "p99.9 latency", "Slowest delivery"]) {
      await page.locator("dt").getByText(name, { exact: true }).waitFor();
    }
  });

  test("the headline is the CPU of a delivery", async () => {
    const page = await open(pageOf(reports.whole));
    assert.match(
      await page.locator(".tile").first().innerText(),
      /^Server CPU per delivery\s+6\.07\s*µs/,
    );
  });

  test("faults are loud, and each is named", async () => {
    const page = await open(pageOf(reports.faulty));
    const words = (await page.locator(".faulty").innerText()).replace(/\s+/g, " ");
    assert.match(
      words,
      /^1,234 lost 7 repeated 2 reordered 41 disconnected 3 errors of the server/,
    );
    assert.equal(await page.getByText("Every delivery arrived").count(), 0);
  });

  test("what is absent is not shown, whatever it is", async () => {
    const page = await open(pageOf({}));
    const whole = { ...reports.faulty, ...reports.knee, neighbour: reports.neighbour.neighbour };
    const inner = Object.keys(whole.series[0]);
    const variants = {
      nothing: {},
      "empty series": { ...whole, series: [] },
      "one look": { ...whole, series: whole.series.slice(0, 1) },
      "no steps": { ...whole, knee: { steps: [] } },
      "no curve": { ...whole, latency_us: { ...whole.latency_us, distribution: [] } },
    };
    for (const key of Object.keys(whole)) variants[`null ${key}`] = { ...whole, [key]: null };
    for (const key of inner) {
      variants[`null ${key} in the series`] = {
        ...whole,
        series: whole.series.map((row) => ({ ...row, [key]: null })),
      };
    }
    for (const [name, report] of Object.entries(variants)) {
      writeFileSync(joinPath(folder, "page.html"), pageOf(report));
      await page.reload();
      await isTidy(page, name);
      assert.deepEqual(complaints, [], name);
    }
  });

  test("pointing at a plot shows its figures, in all plots over time at once", async () => {
    const page = await open(pageOf(reports.whole));
    const value = (heading, place) =>
      page
        .locator(".card", { has: page.getByRole("heading", { name: heading, exact: true }) })
        .locator(".u-value")
        .nth(place);
    await page.locator(".u-over").nth(1).hover();
    for (const heading of ["Latency", "CPU", "Server memory"]) {
      assert.match(await value(heading, 0).innerText(), /^\d+\s*s$/, heading);
      assert.match(await value(heading, 1).innerText(), /^[\d.]+\s*(ms|%|MiB)$/, heading);
    }
  });

  test("the plots follow the colours and the width of the screen", async () => {
    const page = await open(pageOf(reports.whole));
    const headings = await plots(page);
    const light = await page
      .locator("canvas")
      .first()
      .evaluate((canvas) => canvas.toDataURL());
    await page.emulateMedia({ colorScheme: "dark" });
    await page.waitForFunction(
      (old) => document.querySelector("canvas").toDataURL() !== old,
      light,
    );
    await page.setViewportSize({ width: 700, height: 900 });
    await page.waitForFunction(() => document.querySelector("canvas").clientWidth < 700);
    await isTidy(page, "a narrow window");
    assert.deepEqual(await plots(page), headings);
  });

  test("it prints on light paper and is as before afterwards", async () => {
    const page = await open(pageOf(reports.whole), VIEWS.dark);
    const headings = await plots(page);
    await page.evaluate(() =>
      addEventListener("beforeprint", () => {
        window.paper = getComputedStyle(document.body).getPropertyValue("--surface");
      }),
    );
    const pdf = await page.pdf({ preferCSSPageSize: true });
    writeFileSync(joinPath(SCREENSHOTS, "report.pdf"), pdf);
    assert.equal(await page.evaluate(() => window.paper), "#ffffff");
    assert.equal(await page.evaluate(() => document.documentElement.className), "");
    assert.deepEqual(await plots(page), headings);
  });

  test("what a hostile server says is shown and not run", async (t) => {
    const text = `</script><script>window.ran = 1</script><img src="x" onerror="window.ran = 1">`;
    const server = await hostile(text);
    t.after(() => server.close());
    const page = await open(await load(`ws://127.0.0.1:${server.address().port}/`, 1));
    assert.ok((await page.locator(".faulty").innerText()).includes("<script>window.ran = 1"));
    assert.equal(await page.evaluate(() => window.ran), undefined);
    assert.equal(await page.locator("img").count(), 0);
    // And every other text of a report, if one of them were a stranger's too.
    const everywhere = JSON.parse(JSON.stringify(reports.knee), (_, value) =>
      typeof value === "string" ? text : value,
    );
    const other = await open(
      pageOf({ ...everywhere, [text]: text, storm: { [text]: { [text]: text } } }),
    );
    assert.equal(await other.evaluate(() => window.ran), undefined);
    assert.equal(await other.locator("img").count(), 0);
  });
});

/** A server of golem's wire for one room, which says `text` in an `error` during the run. */
async function hostile(text) {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  let publications = 0;
  server.on("connection", (socket) =>
    socket.on("message", (data) => {
      const [, event, json] = /^(\w+) (.*)$/s.exec(String(data));
      if (event !== "msg") return;
      for (const member of server.clients)
        member.send(`msg ${JSON.stringify(JSON.parse(json).msg)}`);
      publications += 1;
      if (publications === 50) socket.send(`error ${JSON.stringify({ code: "x", message: text })}`);
    }),
  );
  await within("the hostile server", new Promise((resolve) => server.once("listening", resolve)));
  return server;
}
