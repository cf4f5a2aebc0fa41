/**
 * @file Questions for a room's history. They are only read, so a lost connection means to ask
 * again.
 */

import { Deferred, failed } from "./deferred.js";
import { ProtocolError, QueueFullError, RefusedError } from "./errors.js";
import type { ClosedError, ThrongError } from "./errors.js";
import type { Answer, Exchange, Tell } from "./exchange.js";
import type { Clock } from "./options.js";
import { missing, readPublications, readRecovery } from "./publication.js";
import type { Publication } from "./publication.js";
import { Timer } from "./timer.js";
import { readPosition } from "./wire.js";
import type { Position } from "./wire.js";

/** Which part of a room's history: what comes after a position, or the end of it. */
export type HistoryRequest =
  | {
      /** What comes after this position, the oldest first. */
      since: Position;
      /** The most publications to get (the server's default: 100; it also has a limit). */
      limit?: number;
    }
  | {
      /** That many of the last publications, the oldest first. */
      last: number;
    };

/** A part of a room's history. */
export interface History {
  readonly room: string;
  /**
   * Of the last publication here, or of the room if there is none: ask with it as `since` to go on.
   * Null if there is no such room.
   */
  readonly position: Position | null;
  /** In order. The first one's `gap` says what is missing since the position that was asked for. */
  readonly publications: readonly Publication[];
  /** Whether the server holds later ones. */
  readonly more: boolean;
  /** Whether nothing is missing since the position that was asked for; null if none was. */
  readonly recovered: boolean | null;
}

/** The most questions that wait: they are small, and more than this is a mistake. */
const HISTORIES_MAX = 128;

interface Entry {
  readonly room: string;
  readonly request: { since?: Position; limit?: number | undefined; last?: number };
  readonly history: Deferred<History>;
  /** Runs while the server wants us to wait. */
  readonly pause: Timer;
}

/** The questions of one connection. @internal */
export class Histories {
  readonly #exchange: Exchange;
  readonly #clock: Clock;
  readonly #tell: Tell;
  readonly #entries = new Set<Entry>();

  constructor(exchange: Exchange, clock: Clock, tell: Tell) {
    this.#exchange = exchange;
    this.#clock = clock;
    this.#tell = tell;
  }

  ask(room: string, request: HistoryRequest): Promise<History> {
    if (this.#exchange.closed) return failed(this.#exchange.closed);
    if (this.#entries.size >= HISTORIES_MAX) {
      const error = new QueueFullError(room, "histories", HISTORIES_MAX);
      this.#tell(error);
      return failed(error);
    }
    const pause = new Timer(this.#clock);
    const entry = { room, request, history: new Deferred<History>(), pause };
    this.#entries.add(entry);
    this.#send(entry);
    return entry.history.promise;
  }

  connected(): void {
    for (const entry of this.#entries) if (!entry.pause.isRunning) this.#send(entry);
  }

  close(error: ClosedError): void {
    for (const entry of this.#entries) {
      entry.pause.stop();
      entry.history.reject(error);
    }
    this.#entries.clear();
  }

  #send(entry: Entry): void {
    const { room, request } = entry;
    this.#exchange.ask("history", { room, ...request }, (answer) => this.#answered(entry, answer));
  }

  #answered(entry: Entry, answer: Answer): void {
    if (answer instanceof RefusedError && answer.retryAfterMs !== null) {
      entry.pause.start(answer.retryAfterMs, () => this.#send(entry));
      return;
    }
    this.#entries.delete(entry);
    const result = answer instanceof RefusedError ? answer : read(entry, answer);
    if (result instanceof Error) {
      entry.history.reject(result);
      this.#tell(result);
    } else {
      entry.history.resolve(result);
    }
  }
}

function read(
  { room, request }: Entry,
  answer: Exclude<Answer, RefusedError>,
): History | ThrongError {
  const { position: place, publications: items, more } = answer.fields;
  const position = readPosition(place);
  const publications = readPublications(items, room, position?.epoch ?? "");
  const isNone = position === null && place !== null;
  const nonsense = new ProtocolError(`the server's answer about the history of "${room}" is none`);
  if (answer.event !== "history" || isNone || publications === null) return nonsense;
  const history = { room, position, publications, more: more === true, recovered: null };
  if (!request.since || position === null) return history;
  const recovery = readRecovery(answer.fields, position);
  if (recovery === null) return nonsense;
  const gap = missing(room, request.since, recovery);
  const [first, ...rest] = publications;
  const told = first && gap ? [{ ...first, gap }, ...rest] : publications;
  return { ...history, publications: told, recovered: recovery.recovered };
}
