/**
 * @file What is committed in `dist`: what the sources give, in one file, with types that can be
 * used.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as library from "@throng/client";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const DIST = join(PACKAGE, "dist");

/** Runs a program of Node's and returns what it printed; throws with that if it fails. */
function node(...args) {
  try {
    return execFileSync(process.execPath, args, { cwd: PACKAGE, encoding: "utf8", stdio: "pipe" });
  } catch (cause) {
    throw new Error(`${args.join(" ")}:\n${cause.stdout}${cause.stderr}`, { cause });
  }
}

function tsc(...args) {
  const manifest = createRequire(import.meta.url).resolve("typescript/package.json");
  return node(join(dirname(manifest), "bin/tsc"), ...args);
}

describe("dist", () => {
  test("is what the sources give: `npm run build` makes it", (t) => {
    const built = mkdtempSync(join(tmpdir(), "throng-dist-"));
    t.after(() => rmSync(built, { recursive: true }));
    node("build.mjs", built);
    assert.deepEqual(readdirSync(DIST).sort(), ["throng.d.ts", "throng.js"]);
    for (const file of readdirSync(DIST)) {
      const [committed, fresh] = [DIST, built].map((folder) =>
        readFileSync(join(folder, file), "utf8"),
      );
      assert.ok(committed === fresh, `dist/${file} is not what the sources give: npm run build`);
    }
  });

  test("is one module that imports nothing, and exports what is documented", () => {
    for (const file of readdirSync(DIST)) {
      assert.doesNotMatch(readFileSync(join(DIST, file), "utf8"), /^\s*import |\bfrom "|import\(/m);
    }
    assert.deepEqual(Object.keys(library), [
      "ClosedError",
      "LaggedError",
      "LeftError",
      "ProtocolError",
      "QueueFullError",
      "RefusedError",
      "ThrongError",
      "UnknownOutcomeError",
      "connect",
    ]);
  });

  for (const where of ["browser", "node"]) {
    test(`has types that compile for ${where}`, () => {
      tsc("--project", `tests/types/tsconfig.${where}.json`);
    });
  }

  test("its types do not tell of what is inside", () => {
    const types = readFileSync(join(DIST, "throng.d.ts"), "utf8");
    assert.doesNotMatch(types, /@internal|\bconstructor\(|\b(Membership|Outbox|Exchange|Link) /);
  });
});
