/**
 * @file The page of browser.mjs: what the run says comes as server-sent events, what there is to tell is
 * posted, one batch after the other, so that it stays in order.
 */

import { Subjects } from "./subjects.mjs";
import { connect } from "./throng.mjs";

let waiting = [];
let isPosting = false;

async function post() {
  if (isPosting) return;
  isPosting = true;
  while (waiting.length > 0) {
    const lines = waiting.map((what) => `${JSON.stringify(what)}\n`);
    waiting = [];
    await fetch("tells", { method: "POST", body: lines.join("") });
  }
  isPosting = false;
}

const subjects = new Subjects(connect, (what) => {
  waiting.push(what);
  post();
});
new EventSource("orders").onmessage = ({ data }) => subjects.handle(JSON.parse(data));
