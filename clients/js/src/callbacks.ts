/**
 * @file Who wants to be told of what.
 */

import { report } from "./options.js";

/** Callbacks by event. One that throws is reported, and neither the others nor we notice. */
export class Callbacks<Events> {
  readonly #lists = new Map<keyof Events, ((detail: never) => void)[]>();

  /** @param events Every event that there is. */
  constructor(events: readonly (keyof Events)[]) {
    for (const event of events) this.#lists.set(event, []);
  }

  get isEmpty(): boolean {
    return [...this.#lists.values()].every((list) => list.length === 0);
  }

  /**
   * Adds a callback and returns what takes it away again.
   *
   * @throws {TypeError} If there is no such event: it would never be called.
   */
  on<Event extends keyof Events>(
    event: Event,
    callback: (detail: Events[Event]) => void,
  ): () => void {
    const before = this.#lists.get(event);
    if (!before) throw new TypeError(`there is no event "${String(event)}" here`);
    // Of its own for each call: the same function may be there twice. Lists are replaced and never
    // changed, so that callbacks may add and take away callbacks while they are called.
    const entry = (detail: Events[Event]) => callback(detail);
    this.#lists.set(event, [...before, entry]);
    return () => {
      const now = this.#lists.get(event) ?? [];
      this.#lists.set(
        event,
        now.filter((other) => other !== entry),
      );
    };
  }

  /** Calls them in the order in which they were added. */
  raise<Event extends keyof Events>(event: Event, detail: Events[Event]): void {
    for (const callback of this.#lists.get(event) ?? []) {
      // One that was called before it may have taken it away.
      if (!this.#lists.get(event)?.includes(callback)) continue;
      try {
        (callback as (detail: Events[Event]) => void)(detail);
      } catch (error) {
        report(error);
      }
    }
  }
}
