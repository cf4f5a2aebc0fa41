/**
 * @file Finding out that a connection is dead, which TCP alone tells after minutes or never.
 */

import type { Clock } from "./options.js";
import { Timer } from "./timer.js";

/** How long a peer that was asked may stay silent, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Watches one connection. Anything that is heard shows that it lives. */
export class Liveness {
  readonly #clock: Clock;
  readonly #keepaliveMs: number;
  readonly #ask: () => void;
  readonly #dead: () => void;
  readonly #timer: Timer;
  #heardAt: number;
  /** Whether the peer was asked and has not been heard since. */
  #asked = false;

  /**
   * @param keepaliveMs After how much silence to ask; 0 is never, unless by {@link Liveness.probe}.
   * @param ask Asks the peer for an answer.
   * @param dead Is called once at most, when none came; nothing happens after that.
   */
  constructor(clock: Clock, keepaliveMs: number, ask: () => void, dead: () => void) {
    this.#clock = clock;
    this.#keepaliveMs = keepaliveMs;
    this.#ask = ask;
    this.#dead = dead;
    this.#timer = new Timer(clock);
    this.#heardAt = clock.now();
    this.#watch();
  }

  /** Something came. Cheap: the timer is left alone and looks at this when it runs out. */
  heard(): void {
    this.#heardAt = this.#clock.now();
    this.#asked = false;
  }

  /** Asks now. */
  probe(): void {
    if (this.#asked) return;
    this.#asked = true;
    this.#timer.start(ANSWER_TIMEOUT_MS, () => {
      if (this.#asked) this.#dead();
      else this.#watch();
    });
    this.#ask();
  }

  stop(): void {
    this.#timer.stop();
  }

  #watch(): void {
    if (this.#keepaliveMs === 0) return;
    const now = this.#clock.now();
    // A clock that was set back must not make the silence longer than it is by more than this once.
    this.#heardAt = Math.min(this.#heardAt, now);
    const silentMs = now - this.#heardAt;
    if (silentMs >= this.#keepaliveMs) this.probe();
    else this.#timer.start(this.#keepaliveMs - silentMs, () => this.#watch());
  }
}
