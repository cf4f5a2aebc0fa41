/**
 * @file Subjects in Node: `node node.mjs PORT`. The run listens on that port of 127.0.0.1; orders and
 * tells are lines of JSON. When the run hangs up, this ends.
 */

import { connect as connectTo } from "node:net";
import { createInterface } from "node:readline";
import { Subjects } from "./subjects.mjs";
import { connect } from "./throng.mjs";

const run = connectTo(Number(process.argv[2]), "127.0.0.1");
run.on("close", () => process.exit());
run.on("error", () => process.exit(1));
const tell = (what) => run.write(`${JSON.stringify(what)}\n`);
const subjects = new Subjects(connect, tell);
createInterface(run).on("line", (line) => subjects.handle(JSON.parse(line)));
tell({ tell: "ready" });
