/**
 * @file One thing that is to happen later.
 */

import { TIMER_MAX_MS } from "./options.js";
import type { Clock } from "./options.js";

/** A timer that holds one callback at most: starting it again forgets the one before. */
export class Timer {
  readonly #clock: Clock;
  #pending: unknown = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isRunning(): boolean {
    return this.#pending !== null;
  }

  start(delayMs: number, callback: () => void): void {
    this.stop();
    const run = () => {
      this.#pending = null;
      callback();
    };
    this.#pending = this.#clock.setTimeout(run, Math.min(Math.max(0, delayMs), TIMER_MAX_MS));
  }

  stop(): void {
    if (this.#pending === null) return;
    this.#clock.clearTimeout(this.#pending);
    this.#pending = null;
  }
}
