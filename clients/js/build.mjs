/**
 * @file Builds `dist/throng.js` and `dist/throng.d.ts`: the library as one ES module, and its
 * types.
 *
 * `node build.mjs [DIRECTORY]`; the directory is `dist` unless another is named.
 *
 * TypeScript's compiler makes a file of each source, comments included; this puts them one behind
 * the other, each behind those that it imports, and takes out the imports. That is all it can do:
 * the sources import each other by name and rename nothing, and no two of them have a name in
 * common at their outermost level. What breaks that is refused. A bundler could do more, but one
 * that keeps the comments, and one for the types, would be three more packages for less than these
 * lines.
 */

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
/** What the library offers is what this source exports. */
const ENTRY = "throng";
const BANNER = `// SPDX-License-Identifier: Apache-2.0
// Throng's client for browsers and Node. Made by build.mjs from the sources in clients/js/src:
// change those, and build it again.
`;

const IMPORT = /^import (?:type )?\{([^}]*)\} from "\.\/([a-z]+)\.js";\n/gm;
const REEXPORT = /^export (type )?\{([^}]*)\} from "\.\/([a-z]+)\.js";\n/gm;
const DECLARATION =
  /^(?:export )?(?:declare )?(?:class|const|let|function|interface|type) ([A-Za-z0-9_]+)/gm;

/** Compiles the sources into `directory`. */
function compile(directory) {
  const manifest = createRequire(import.meta.url).resolve("typescript/package.json");
  const tsc = join(dirname(manifest), JSON.parse(readFileSync(manifest, "utf8")).bin.tsc);
  execFileSync(process.execPath, [tsc, "--project", HERE, "--outDir", directory], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

/** The text of one module, made of those that the entry needs, ending in `.js` or `.d.ts`. */
function bundle(directory, ending) {
  const read = (name) => readFileSync(join(directory, name + ending), "utf8");
  const entry = read(ENTRY);
  const order = [];
  for (const [, , , name] of entry.matchAll(REEXPORT)) visit(name, read, order);
  const owners = new Map();
  const parts = order.map((name) => part(name, read(name), owners));
  return `${BANNER}\n${parts.join("\n")}\n${exportsOf(entry)}`;
}

/** Puts a module into `order`, behind those that it imports. A circle is cut where it closes. */
function visit(name, read, order, path = []) {
  if (order.includes(name) || path.includes(name)) return;
  for (const [, , imported] of read(name).matchAll(IMPORT)) {
    visit(imported, read, order, [...path, name]);
  }
  order.push(name);
}

/** A module without its imports and exports. `owners` says which module has which name. */
function part(name, text, owners) {
  for (const [, names] of text.matchAll(IMPORT)) {
    if (/ as /.test(names)) throw new Error(`${name}: an import gives another name:${names}`);
  }
  for (const [, declared] of text.matchAll(DECLARATION)) {
    const owner = owners.get(declared) ?? name;
    if (owner !== name) throw new Error(`${declared} is in ${owner} and in ${name}`);
    owners.set(declared, name);
  }
  const body = text
    .replaceAll(IMPORT, "")
    .replaceAll(/^export (?=(?:declare )?(?:class|const|function|interface|type) )/gm, "")
    .replaceAll(/^export \{\};\n/gm, "");
  const refused = /^(?:import|export)\b.*/m.exec(body);
  if (refused) throw new Error(`${name}: not understood: ${refused[0]}`);
  return spaced(body);
}

/**
 * With the empty lines that the compiler took out: after what ends, and before what is explained.
 */
function spaced(text) {
  return text
    .replaceAll(/^((?: {4})?\};?\n)(?=\s*(?!catch|else|finally|while)[^\s}])/gm, "$1\n")
    .replaceAll(/^(.*[^\s{].*[^{\s])\n(?=\s*\/\*\*)/gm, "$1\n\n")
    .replaceAll(/\n{3,}/g, "\n\n");
}

/** What the entry exports, without saying where it comes from. */
function exportsOf(entry) {
  const lists = { "": [], "type ": [] };
  for (const [, type = "", names] of entry.matchAll(REEXPORT)) {
    lists[type].push(...names.match(/\w+/g));
  }
  const rest = entry
    .replaceAll(REEXPORT, "")
    .replaceAll(/^\/\*\*[^]*?\*\/\n/gm, "")
    .trim();
  if (rest) throw new Error(`${ENTRY}: not understood: ${rest}`);
  const list = (names) =>
    `{\n${names
      .sort()
      .map((name) => `    ${name},\n`)
      .join("")}};\n`;
  return Object.entries(lists)
    .filter(([, names]) => names.length > 0)
    .map(([type, names]) => `export ${type}${list(names)}`)
    .join("");
}

const target = resolve(process.argv[2] ?? join(HERE, "dist"));
const compiled = mkdtempSync(join(tmpdir(), "throng-client-"));
try {
  compile(compiled);
  mkdirSync(target, { recursive: true });
  for (const ending of [".js", ".d.ts"]) {
    writeFileSync(join(target, ENTRY + ending), bundle(compiled, ending));
  }
} finally {
  rmSync(compiled, { recursive: true });
}
