/**
 * @file The network between clients and the server, which a test can take away.
 *
 * It relays bytes and knows nothing of what they mean. Nothing is ever lost in it: as in TCP, what
 * does not arrive ends its connection.
 */

import { once } from "node:events";
import { connect, createServer } from "node:net";

const HOST = "127.0.0.1";

/** A relay to one server. */
export class Network {
  #relay;
  #port;
  /** @type {Set<{ near: import("node:net").Socket, far: import("node:net").Socket }>} */
  #ways = new Set();
  #isCut = false;
  #isHeld = false;
  /**
   * How many bytes a new connection carries, both directions together, before it ends. Null: it does
   * not end by itself.
   *
   * @type {(() => number) | null}
   */
  breaksAfter = null;
  /** How many connections ended so. */
  breaks = 0;

  /**
   * @param {import("./server.mjs").Server} server
   * @returns {Promise<Network>}
   */
  static async to(server) {
    const network = new Network();
    network.#port = Number(new URL(server.url).port);
    network.#relay = createServer((near) => network.#carry(near));
    network.#relay.listen(0, HOST);
    await once(network.#relay, "listening");
    return network;
  }

  /** Where the server's page is, by way of this network. */
  get url() {
    return `http://${HOST}:${this.#relay.address().port}/`;
  }

  /** Where its WebSocket is. */
  get wsUrl() {
    return new URL("ws", this.url.replace(/^http/, "ws")).href;
  }

  /** Ends every connection. New ones end at once, until it is healed. */
  cut() {
    this.#isCut = true;
    for (const { near, far } of this.#ways) {
      near.destroy();
      far.destroy();
    }
  }

  /** Takes new connections again, and carries everything. */
  heal() {
    this.breaksAfter = null;
    this.#isCut = false;
    this.#isHeld = false;
    for (const { far } of this.#ways) far.resume();
  }

  /** What the server sends stays where it is, in the kernel's buffers and then in the server's. */
  hold() {
    this.#isHeld = true;
    for (const { far } of this.#ways) far.pause();
  }

  async stop() {
    this.cut();
    this.#relay.close();
    await once(this.#relay, "close");
  }

  #carry(near) {
    if (this.#isCut) {
      near.destroy();
      return;
    }
    const far = connect(this.#port, HOST);
    const way = { near, far };
    this.#ways.add(way);
    let left = this.breaksAfter?.() ?? Infinity;
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#ways.delete(way);
        // What was said before the end arrives before it.
        to.destroySoon();
      });
      from.on("data", (chunk) => {
        if (left <= 0) return;
        to.write(chunk.subarray(0, left));
        left -= chunk.length;
        if (left <= 0 && this.breaksAfter) this.#break(way);
      });
    }
    if (this.#isHeld) far.pause();
  }

  /** What was carried arrives; then both ends are gone. */
  #break({ near, far }) {
    this.breaks += 1;
    near.destroySoon();
    far.destroySoon();
  }
}
