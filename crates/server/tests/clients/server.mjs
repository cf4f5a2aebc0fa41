/**
 * @file The server under test, as a process of its own, and how a test waits.
 *
 * `THRONG_BIN` names the binary, `THRONG_EXAMPLES` the directory with the examples. A test waits on what
 * happens and never on the clock; the one clock here, {@link TIMEOUT_MS}, only says when to call it a failure.
 */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Longer than anything here takes on a loaded machine; a test that runs into it has failed. */
export const TIMEOUT_MS = 20_000;
/** Between two looks at something that cannot tell us when it changes. */
const LOOK_AGAIN_MS = 20;
/** Lines of the server's own output that a failure prints. */
const LOG_LINES_MAX = 200;

/**
 * Waits for `promise`, and not for ever.
 *
 * @template T
 * @param {string} what What is waited for, to name it in the failure.
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
export async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`still waiting for ${what}`)), TIMEOUT_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A running server. */
export class Server {
  #child;
  #exit;
  #log = [];
  #signal = "SIGTERM";
  /** Its page, with a slash at the end: `http://127.0.0.1:40123/`. */
  url = "";

  /**
   * Starts a server and waits until it listens.
   *
   * @param {Record<string, string>} [env] Settings, such as `{ THRONG_CORES: "2" }`. Without
   *   `THRONG_LISTEN` it takes a free port of 127.0.0.1.
   * @returns {Promise<Server>}
   */
  static async start(env = {}) {
    const binary = process.env.THRONG_BIN;
    if (!binary) throw new Error("THRONG_BIN must name the server's binary");
    return Server.#started(binary, [], { THRONG_LISTEN: "127.0.0.1:0", ...env });
  }

  /**
   * Starts one of the examples, on a free port, and waits until it listens.
   *
   * @param {string} name
   * @returns {Promise<Server>}
   */
  static async example(name) {
    const directory = process.env.THRONG_EXAMPLES;
    if (!directory) throw new Error("THRONG_EXAMPLES must name the directory of the examples");
    const server = await Server.#started(join(directory, name), ["127.0.0.1:0"], {}, "pipe");
    server.#signal = "SIGINT";
    return server;
  }

  /** Types a line at an example's terminal. */
  types(line) {
    this.#child.stdin.write(`${line}\n`);
  }

  static async #started(binary, args, env, stdin = "ignore") {
    const server = new Server();
    try {
      const listens = server.#spawn(binary, args, env, stdin);
      server.url = await within("the server to listen", listens);
    } catch (cause) {
      server.#child?.kill("SIGKILL");
      throw new Error(`${cause.message}; its output:\n${server.#log.join("\n")}`, { cause });
    }
    return server;
  }

  /** Where its WebSocket is. */
  get wsUrl() {
    return new URL("ws", this.url.replace(/^http/, "ws")).href;
  }

  /** `127.0.0.1:40123`: to start another one in its place. */
  get address() {
    return new URL(this.url).host;
  }

  /**
   * Waits until it has logged so many lines that match, from its start on, and returns them.
   *
   * @param {RegExp} pattern
   */
  async logs(pattern, count = 1) {
    const deadline = Date.now() + TIMEOUT_MS;
    for (;;) {
      const found = this.#log.filter((line) => pattern.test(line));
      if (found.length >= count) return found;
      if (Date.now() > deadline) {
        throw new Error(`still waiting for ${pattern}; its output:\n${this.#log.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  /**
   * Asks it to stop (SIGTERM; Ctrl-C if it is an example) and waits until it has.
   *
   * @throws If its exit code is not 0, or if it does not stop; then it is killed.
   */
  async stop() {
    this.#child.kill(this.#signal);
    let exit;
    try {
      exit = await within("the server to stop", this.#exit);
    } catch (cause) {
      this.#child.kill("SIGKILL");
      throw cause;
    }
    if (exit !== 0) throw new Error(`the server ended with ${exit}:\n${this.#log.join("\n")}`);
  }

  /** Ends it without asking (SIGKILL), and waits until it has ended. */
  async kill() {
    this.#child.kill("SIGKILL");
    await within("the server to be dead", this.#exit);
  }

  /**
   * Its metrics without labels, by name.
   *
   * @returns {Promise<Record<string, number>>}
   */
  async metrics() {
    const response = await fetch(new URL("metrics", this.url));
    if (!response.ok) throw new Error(`/metrics answered ${response.status}`);
    const lines = (await response.text()).split("\n");
    const samples = lines.map((line) => /^(\w+) (\S+)/.exec(line)).filter(Boolean);
    return Object.fromEntries(samples.map(([, name, value]) => [name, Number(value)]));
  }

  /**
   * Waits until its gauges have these values: `{ throng_members: 2, throng_rooms: 1 }`.
   *
   * @param {Record<string, number>} wanted
   */
  async reaches(wanted) {
    await this.#looks(wanted, (value, target) => value === target);
  }

  /** Waits until its counters have these values or more. */
  async reachesAtLeast(wanted) {
    await this.#looks(wanted, (value, target) => value >= target);
  }

  async #looks(wanted, isReached) {
    const deadline = Date.now() + TIMEOUT_MS;
    const names = Object.keys(wanted);
    for (;;) {
      const metrics = await this.metrics();
      if (names.every((name) => isReached(metrics[name], wanted[name]))) return;
      if (Date.now() > deadline) {
        const found = names.map((name) => `${name}=${metrics[name]}`).join(" ");
        throw new Error(`still waiting for ${JSON.stringify(wanted)}, found ${found}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  #spawn(binary, args, env, stdin) {
    this.#child = spawn(binary, args, {
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdio: [stdin, "pipe", "pipe"],
    });
    const child = this.#child;
    // A test run that dies must not leave its server behind.
    const kill = () => child.kill("SIGKILL");
    process.once("exit", kill);
    this.#exit = new Promise((resolve) =>
      child.once("exit", (code, signal) => {
        process.off("exit", kill);
        resolve(code ?? signal);
      }),
    );
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      this.#exit.then((exit) => reject(new Error(`the server ended with ${exit} at its start`)));
      for (const stream of [child.stdout, child.stderr]) {
        createInterface(stream).on("line", (line) => {
          this.#log.push(line);
          if (this.#log.length > LOG_LINES_MAX) this.#log.shift();
          const found = /listening on (http:\/\/\S+)/.exec(line);
          if (found) resolve(found[1]);
        });
      }
    });
  }
}
