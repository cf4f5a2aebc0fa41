/**
 * @file Subjects in a browser: `node browser.mjs PORT`. As node.mjs, but what the run says is handed on
 * to a page, which whoever starts the browser opens: its address is told first.
 *
 * The page listens to server-sent events and posts what it has to tell.
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect as connectTo } from "node:net";
import { createInterface } from "node:readline";

const TYPES = { html: "text/html", mjs: "text/javascript" };
const FILES = ["page.html", "page.mjs", "subjects.mjs", "throng.mjs"];

const run = connectTo(Number(process.argv[2]), "127.0.0.1");
run.on("close", () => process.exit());
run.on("error", () => process.exit(1));

async function serveFile(name, response) {
  const text = await readFile(new URL(name, import.meta.url));
  response.writeHead(200, { "content-type": TYPES[name.split(".")[1]] }).end(text);
}

/** Orders go to the page as they come. It is there once and stays. */
function serveOrders(response) {
  response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
  createInterface(run).on("line", (line) => response.write(`data: ${line}\n\n`));
  run.write(`${JSON.stringify({ tell: "ready" })}\n`);
}

const server = createServer((request, response) => {
  const name = request.url.slice(1);
  if (name === "orders") serveOrders(response);
  else if (name === "tells" && request.method === "POST") {
    request.pipe(run, { end: false });
    request.on("end", () => response.writeHead(204).end());
  } else if (FILES.includes(name)) serveFile(name, response);
  else response.writeHead(404).end();
});
server.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}/page.html`;
  run.write(`${JSON.stringify({ tell: "page", url })}\n`);
});
