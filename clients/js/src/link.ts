/**
 * @file One WebSocket, from the attempt to its end.
 *
 * It is open when the server has greeted. It ends once, by {@link LinkOwner.lost} or by
 * {@link Link.end}, and nothing is heard of it afterwards, whatever its socket still does.
 */

import { readCloseReason, readPause } from "./backoff.js";
import { ProtocolError } from "./errors.js";
import { Liveness } from "./liveness.js";
import type { Settings, WebSocketLike } from "./options.js";
import { Timer } from "./timer.js";
import { SUBPROTOCOL, decode, encode, readHello } from "./wire.js";
import type { Fields, Hello, Message } from "./wire.js";

/** How a connection ended. */
export interface End {
  /** The close code; 1006 if there was no close frame, or if we gave the connection up. */
  readonly code: number;
  readonly reason: string;
  /** The pause that the server asked for, in milliseconds. */
  readonly afterMs: number;
}

/** Who is told what becomes of a link. */
export interface LinkOwner {
  opened(hello: Hello): void;
  message(event: string, fields: Fields): void;
  /** The server said what throng.v1 does not allow. The link goes on. */
  misheard(error: ProtocolError): void;
  lost(end: End): void;
}

/** `readyState` of a WebSocket that takes messages. */
const OPEN = 1;
/**
 * Of every `ping`; other requests count from 1. Who answers does not matter, only that somebody
 * does.
 */
const PING_ID = 0;
/** No close frame came (RFC 6455, section 7.4.1). */
const ABNORMAL = 1006;

/** A socket that the owner uses until it is lost. */
export class Link {
  readonly #owner: LinkOwner;
  readonly #settings: Settings;
  readonly #socket: WebSocketLike;
  readonly #attempt: Timer;
  #liveness: Liveness | null = null;
  #hello: Hello | null = null;
  #isOver = false;
  /** What a `drain` asked for, should the close frame not say it or never come. */
  #drainMs = 0;

  /** @throws If the surroundings forbid such a connection. */
  constructor(url: string, settings: Settings, owner: LinkOwner) {
    this.#owner = owner;
    this.#settings = settings;
    this.#attempt = new Timer(settings.clock);
    this.#socket = new settings.WebSocket(url, SUBPROTOCOL);
    this.#listen("open", () => this.#handleOpen());
    this.#listen("message", ({ data }) => this.#handleMessage(data));
    this.#listen("close", ({ code, reason }) => this.#handleClose(code, String(reason ?? "")));
    // A `close` follows. Without a listener, npm `ws` would end the process.
    this.#listen("error", () => {});
    this.#attempt.start(settings.connectTimeoutMs, () => this.#giveUp("connect timeout"));
  }

  /** The server's greeting; null until it came. */
  get hello(): Hello | null {
    return this.#hello;
  }

  /** Whether what is sent now goes out. */
  get isOpen(): boolean {
    return !this.#isOver && this.#hello !== null && this.#socket.readyState === OPEN;
  }

  /** Bytes that the socket took and has not yet sent. */
  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  /** Sends a message; the link must be open. */
  send(text: string): void {
    this.#socket.send(text);
  }

  /** Asks the server for a sign of life, if it has greeted. */
  probe(): void {
    this.#liveness?.probe();
  }

  /** Ends it without telling the owner. A server that listens is told that we are done. */
  end(): void {
    this.#finish();
    this.#socket.close(1000);
  }

  #listen(
    type: "open" | "message" | "close" | "error",
    handle: (event: { data?: unknown; code: number; reason?: unknown }) => void,
  ): void {
    this.#socket.addEventListener(type, (event) => {
      if (!this.#isOver) handle(event);
    });
  }

  #handleOpen(): void {
    const spoken = this.#socket.protocol;
    if (spoken === SUBPROTOCOL) return;
    this.#owner.misheard(new ProtocolError(`the server speaks "${spoken}", not ${SUBPROTOCOL}`));
    this.#giveUp("wrong subprotocol");
  }

  #handleMessage(data: unknown): void {
    this.#liveness?.heard();
    const message = this.#decode(data);
    if (message === null) return;
    if (this.#hello === null) this.#greet(message);
    else if (message.event === "drain") this.#drainMs = readPause(message.fields["after_ms"]);
    else this.#owner.message(message.event, message.fields);
  }

  #decode(data: unknown): Message | null {
    try {
      if (typeof data === "string") return decode(data);
      this.#owner.misheard(new ProtocolError("the server sent a binary message"));
    } catch (cause) {
      this.#owner.misheard(new ProtocolError("the server sent data that is not JSON", cause));
    }
    return null;
  }

  #greet({ event, fields }: Message): void {
    if (event !== "hello") {
      this.#owner.misheard(new ProtocolError(`the server began with "${event}", not with hello`));
      this.#giveUp("no hello");
      return;
    }
    this.#attempt.stop();
    const hello = readHello(fields);
    this.#hello = hello;
    this.#liveness = new Liveness(
      this.#settings.clock,
      hello.keepaliveMs,
      () => this.isOpen && this.send(encode("ping", { id: PING_ID })),
      () => this.#giveUp("silent server"),
    );
    this.#owner.opened(hello);
  }

  #handleClose(code: number, text: string): void {
    const { reason, afterMs } = readCloseReason(code, text);
    this.#lose({ code, reason, afterMs: Math.max(afterMs, this.#drainMs) });
  }

  /** The socket may take minutes to find out that nobody is there; nobody waits for that. */
  #giveUp(reason: string): void {
    if (this.#isOver) return;
    this.#lose({ code: ABNORMAL, reason, afterMs: this.#drainMs }, () => {
      if (this.#socket.terminate) this.#socket.terminate();
      else this.#socket.close(1000);
    });
  }

  #lose(end: End, abandon?: () => void): void {
    this.#finish();
    abandon?.();
    this.#owner.lost(end);
  }

  #finish(): void {
    this.#isOver = true;
    this.#attempt.stop();
    this.#liveness?.stop();
  }
}
