/**
 * @file The rooms that anybody here has to do with, by name.
 *
 * A room is kept while it is wanted, while somebody listens to it or reads it, and while an answer
 * about it is awaited; so there are as many as the application uses, whatever the server sends.
 */

import type { ClosedError } from "./errors.js";
import { ProtocolError } from "./errors.js";
import type { Exchange, Tell } from "./exchange.js";
import { Membership } from "./membership.js";
import type { MembershipHost } from "./membership.js";
import type { Clock } from "./options.js";
import type { Fields } from "./wire.js";

/** The rooms of one connection. */
export class Rooms implements MembershipHost {
  readonly exchange: Exchange;
  readonly clock: Clock;
  readonly tell: Tell;
  readonly #memberships = new Map<string, Membership>();

  constructor(exchange: Exchange, clock: Clock, tell: Tell) {
    this.exchange = exchange;
    this.clock = clock;
    this.tell = tell;
  }

  /** The names of those that are wanted, in the order in which they came to be of use. */
  get wanted(): string[] {
    return [...this.#memberships.values()].filter((room) => room.isWanted).map(({ name }) => name);
  }

  /** The room, which is made if there is none. */
  use(name: string): Membership {
    let membership = this.#memberships.get(name);
    if (!membership) {
      membership = new Membership(name, this);
      this.#memberships.set(name, membership);
    }
    return membership;
  }

  /** The room, if there is anything to know of it. */
  find(name: string): Membership | null {
    return this.#memberships.get(name) ?? null;
  }

  release(membership: Membership): void {
    const isKept = this.#memberships.get(membership.name) === membership;
    if (isKept && membership.isIdle) this.#memberships.delete(membership.name);
  }

  connected(): void {
    for (const membership of [...this.#memberships.values()]) membership.connected();
  }

  connectionLost(): void {
    for (const membership of [...this.#memberships.values()]) membership.connectionLost();
  }

  closed(error: ClosedError): void {
    for (const membership of [...this.#memberships.values()]) membership.closed(error);
  }

  closedForGood(error: ClosedError): void {
    for (const membership of [...this.#memberships.values()]) membership.closedForGood(error);
    this.#memberships.clear();
  }

  /** An event of a room came from the server. */
  handle(event: string, fields: Fields): void {
    const name = fields["room"];
    if (typeof name !== "string") {
      this.tell(new ProtocolError(`the server sent a "${event}" without a room`));
      return;
    }
    // Of a room that was left a moment ago, something may still be under way.
    const membership = this.#memberships.get(name);
    if (event === "msg") membership?.published(fields);
    else if (event === "gap") membership?.skipped(fields);
    else membership?.emitted(event, fields);
  }
}
