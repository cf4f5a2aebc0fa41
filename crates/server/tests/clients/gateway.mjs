/**
 * @file What an operator may put before the server: it passes messages on, both ways, and sends
 * people away with close codes that are its own.
 */

import { once } from "node:events";
import WebSocket, { WebSocketServer } from "ws";

const SUBPROTOCOL = "throng.v1";

/** A gateway before one server. */
export class Gateway {
  #server;
  #entrance;
  #isMute = false;

  /**
   * @param {import("./server.mjs").Server} server
   * @returns {Promise<Gateway>}
   */
  static async to(server) {
    const gateway = new Gateway();
    gateway.#server = server;
    gateway.#entrance = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    gateway.#entrance.on("connection", (near) => gateway.#carry(near));
    await once(gateway.#entrance, "listening");
    return gateway;
  }

  /** Where it takes WebSockets. */
  get wsUrl() {
    return `ws://127.0.0.1:${this.#entrance.address().port}/ws`;
  }

  /** What the server says to those who are here goes no further. */
  mute() {
    this.#isMute = true;
  }

  /** Sends everybody away; who comes again is told everything. */
  close(code, reason) {
    this.#isMute = false;
    for (const near of this.#entrance.clients) near.close(code, reason);
  }

  async stop() {
    this.#entrance.close();
    for (const near of this.#entrance.clients) near.terminate();
    await once(this.#entrance, "close");
  }

  #carry(near) {
    const far = new WebSocket(this.#server.wsUrl, SUBPROTOCOL);
    // The server greets before anybody may say something: nothing comes before it is there.
    near.on("message", (data) => far.send(String(data)));
    far.on("message", (data) => this.#isMute || near.send(String(data)));
    near.on("close", () => far.terminate());
    far.on("close", () => near.terminate());
    for (const end of [near, far]) end.on("error", () => {});
  }
}
