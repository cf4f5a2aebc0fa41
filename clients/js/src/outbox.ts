/**
 * @file Publications that are not acknowledged yet.
 *
 * Invariants:
 *
 * - Each has a key, the same for every sending: the server delivers it once, however often it is
 *   sent within the time that it remembers keys. After half of that time nothing is sent again.
 * - A room's publications stand in a lane, in the order of the calls. Only the first few of a lane
 *   (one, unless set otherwise) may be under way, so that none overtakes another.
 * - Count and bytes are bounded over all lanes; what is beyond is refused at once.
 */

import { Deferred, failed } from "./deferred.js";
import { ProtocolError, QueueFullError, RefusedError, UnknownOutcomeError } from "./errors.js";
import type { ClosedError, ThrongError } from "./errors.js";
import type { Answer, Exchange, Tell } from "./exchange.js";
import type { Settings } from "./options.js";
import { Timer } from "./timer.js";
import { encodePublish, readPosition, utf8Length } from "./wire.js";
import type { Position } from "./wire.js";

/** What {@link Room.publish} may be told. */
export interface PublishOptions {
  /**
   * What makes it one publication however often it is sent: 1 to 64 bytes, unique in the room for
   * as long as the server remembers keys. The default is a new one. Give one to publish the same
   * again after an {@link UnknownOutcomeError}, or after the page was loaded again.
   */
  key?: string;
  /**
   * Withdraws it. If it was not sent yet, it never is, and the promise rejects with the signal's
   * reason; otherwise with {@link UnknownOutcomeError}. `AbortSignal.timeout(60_000)` is how long
   * it may wait for a connection.
   */
  signal?: AbortSignal;
}

/** The server has taken a publication. */
export interface Ack {
  readonly room: string;
  /** Its place in the room; null if nobody was there and the room keeps no history. */
  readonly position: Position | null;
  /** Whether the server had it already from an earlier sending. It was not delivered again. */
  readonly duplicate: boolean;
  /** The key that it was sent with. */
  readonly key: string;
}

/** The longest key that throng.v1 has, in bytes. */
const KEY_BYTES_MAX = 64;

/** One publication, from the call until its promise is settled. */
interface Entry {
  readonly room: string;
  readonly key: string;
  readonly json: string;
  readonly bytes: number;
  readonly ack: Deferred<Ack>;
  /** Runs from the first sending. */
  readonly deadline: Timer;
  /** When it was first sent; null if it never was. */
  firstSentAt: number | null;
  /** The question that is under way; null if none is. */
  id: number | null;
  /** Whether a sending was lost without an answer, so that the server may have it. */
  isDoubtful: boolean;
  /** What the server last said against it. */
  refusal: RefusedError | null;
  /** Is called when it leaves the lane. */
  settled: () => void;
}

/** One room's publications, in order. */
interface Lane {
  readonly entries: Set<Entry>;
  /** Runs while the server wants us to wait. */
  readonly pause: Timer;
}

/** The publications of one connection. @internal */
export class Outbox {
  readonly #settings: Settings;
  readonly #exchange: Exchange;
  readonly #tell: Tell;
  readonly #lanes = new Map<string, Lane>();
  #count = 0;
  #bytes = 0;
  #keyCount = 0;

  constructor(settings: Settings, exchange: Exchange, tell: Tell) {
    this.#settings = settings;
    this.#exchange = exchange;
    this.#tell = tell;
  }

  /** How many publications wait for their acknowledgement. */
  get count(): number {
    return this.#count;
  }

  publish(room: string, data: unknown, options: PublishOptions): Promise<Ack> {
    // As it is now: what the application changes afterwards is not published.
    const json = JSON.stringify(data) as string | undefined;
    if (json === undefined) throw new TypeError("JSON cannot say what is to be published");
    const key = options.key ?? this.#nextKey();
    if (key === "" || utf8Length(key) > KEY_BYTES_MAX) {
      throw new TypeError(`key: 1 to ${KEY_BYTES_MAX} bytes, not ${utf8Length(key)}`);
    }
    if (options.signal?.aborted) return failed(options.signal.reason);
    if (this.#exchange.closed) return failed(this.#exchange.closed);
    const entry = this.#entry(room, key, json);
    const refusal = this.#tooLarge(entry, 0) ?? this.#full(entry);
    if (refusal) {
      this.#tell(refusal);
      return failed(refusal);
    }
    this.#add(entry);
    this.#follow(entry, options.signal);
    this.#advance(room);
    return entry.ack.promise;
  }

  /** There is a connection: sends what waits, and again what was not acknowledged. */
  connected(): void {
    for (const room of [...this.#lanes.keys()]) this.#advance(room);
  }

  connectionLost(): void {
    for (const { entries } of this.#lanes.values()) {
      for (const entry of entries) {
        // They are sent in order: behind one that never was, none was.
        if (entry.firstSentAt === null) break;
        entry.isDoubtful ||= entry.id !== null;
        entry.id = null;
      }
    }
  }

  /** The connection does not come back by itself. Nobody waits any longer. */
  close(error: ClosedError, isTold: boolean): void {
    // All of them first: who is told of one may publish again.
    const entries = [...this.#lanes.values()].flatMap((lane) => [...lane.entries]);
    for (const entry of entries) {
      const isUnknown = entry.isDoubtful || entry.id !== null;
      const why = "the connection was closed";
      this.#fail(entry, isUnknown ? unknownOutcome(entry, why, error) : error, isTold);
    }
  }

  #nextKey(): string {
    this.#keyCount += 1;
    return `${this.#settings.keyPrefix}-${this.#keyCount.toString(36)}`;
  }

  #entry(room: string, key: string, json: string): Entry {
    return {
      room,
      key,
      json,
      bytes: utf8Length(json),
      ack: new Deferred(),
      deadline: new Timer(this.#settings.clock),
      firstSentAt: null,
      id: null,
      isDoubtful: false,
      refusal: null,
      settled: () => {},
    };
  }

  /** A message over the server's limit would end the connection, again and again. */
  #tooLarge(entry: Entry, id: number): RefusedError | null {
    const max = this.#exchange.limits?.messageBytes ?? null;
    // Most are far below: JSON makes six bytes of a unit at most, and the rest is less than 64.
    const { length } = entry.room + entry.key;
    if (max === null || entry.bytes + 6 * length + 64 <= max) return null;
    const bytes = utf8Length(encodePublish(id, entry.room, entry.json, entry.key));
    if (bytes <= max) return null;
    const message = `a message of ${bytes} bytes, and the server takes ${max}`;
    return new RefusedError("too_large", message, { event: "msg", room: entry.room });
  }

  #full(entry: Entry): QueueFullError | null {
    const { publishesMax, publishBytesMax } = this.#settings;
    if (this.#count + 1 > publishesMax) {
      return new QueueFullError(entry.room, "publishesMax", publishesMax);
    }
    if (this.#bytes + entry.bytes > publishBytesMax) {
      return new QueueFullError(entry.room, "publishBytesMax", publishBytesMax);
    }
    return null;
  }

  #add(entry: Entry): void {
    let lane = this.#lanes.get(entry.room);
    if (!lane) {
      lane = { entries: new Set(), pause: new Timer(this.#settings.clock) };
      this.#lanes.set(entry.room, lane);
    }
    lane.entries.add(entry);
    this.#count += 1;
    this.#bytes += entry.bytes;
  }

  #follow(entry: Entry, signal: AbortSignal | undefined): void {
    if (!signal) return;
    const abort = () => {
      const isUnknown = entry.isDoubtful || entry.id !== null;
      const reason = isUnknown
        ? unknownOutcome(entry, "it was withdrawn", signal.reason)
        : signal.reason;
      this.#fail(entry, reason, false);
      this.#advance(entry.room);
    };
    signal.addEventListener("abort", abort, { once: true });
    entry.settled = () => signal.removeEventListener("abort", abort);
  }

  /** Sends what may be under way and is not. */
  #advance(room: string): void {
    const lane = this.#lanes.get(room);
    if (!lane || lane.pause.isRunning) return;
    let ahead = 0;
    for (const entry of lane.entries) {
      if (!this.#exchange.isOpen || ahead >= this.#settings.publishesInFlightMax) return;
      if (entry.id !== null || this.#send(lane, entry)) ahead += 1;
    }
  }

  /** Sends one that is not under way. Returns whether it is now. */
  #send(lane: Lane, entry: Entry): boolean {
    const { clock, publishTimeoutMs } = this.#settings;
    const now = clock.now();
    // Timers may come late, as after a sleep of the machine; a repeat must not.
    if (entry.firstSentAt !== null && now - entry.firstSentAt >= publishTimeoutMs) {
      this.#expire(entry);
      return false;
    }
    const id = this.#exchange.takeId();
    const tooLarge = this.#tooLarge(entry, id);
    if (tooLarge) {
      this.#refuse(entry, tooLarge);
      return false;
    }
    const text = encodePublish(id, entry.room, entry.json, entry.key);
    entry.id = this.#exchange.askText(id, text, (answer) => this.#answered(lane, entry, answer));
    if (entry.firstSentAt === null && entry.id !== null) {
      entry.firstSentAt = now;
      entry.deadline.start(publishTimeoutMs, () => {
        this.#expire(entry);
        this.#advance(entry.room);
      });
    }
    return entry.id !== null;
  }

  #answered(lane: Lane, entry: Entry, answer: Answer): void {
    entry.id = null;
    if (answer instanceof RefusedError && answer.retryAfterMs !== null) {
      entry.refusal = answer;
      lane.pause.start(answer.retryAfterMs, () => this.#advance(entry.room));
      return;
    }
    if (answer instanceof RefusedError) {
      this.#refuse(entry, answer);
    } else if (answer.event === "ack") {
      this.#remove(entry);
      const { room, key } = entry;
      const position = readPosition(answer.fields["position"]);
      entry.ack.resolve({ room, key, position, duplicate: answer.fields["duplicate"] === true });
    } else {
      const error = new ProtocolError(`the server answered a publication with "${answer.event}"`);
      this.#fail(entry, unknownOutcome(entry, "the server's answer makes no sense", error), true);
    }
    this.#advance(entry.room);
  }

  /** It is not taken now. Whether it was taken before is another question. */
  #refuse(entry: Entry, refusal: RefusedError): void {
    const why = "an answer was lost, and then it was refused";
    this.#fail(entry, entry.isDoubtful ? unknownOutcome(entry, why, refusal) : refusal, true);
  }

  /** It has waited as long as it may. */
  #expire(entry: Entry): void {
    const isUnknown = entry.isDoubtful || entry.id !== null || entry.refusal === null;
    const why = "no answer came in time, and the server may soon forget its key";
    this.#fail(entry, isUnknown ? unknownOutcome(entry, why) : entry.refusal, true);
  }

  #fail(entry: Entry, error: unknown, isTold: boolean): void {
    this.#remove(entry);
    entry.ack.reject(error);
    if (isTold) this.#tell(error as ThrongError);
  }

  #remove(entry: Entry): void {
    const lane = this.#lanes.get(entry.room);
    if (!lane?.entries.delete(entry)) return;
    this.#count -= 1;
    this.#bytes -= entry.bytes;
    this.#exchange.forget(entry.id);
    entry.id = null;
    entry.deadline.stop();
    entry.settled();
    if (lane.entries.size > 0) return;
    lane.pause.stop();
    this.#lanes.delete(entry.room);
  }
}

function unknownOutcome(entry: Entry, why: string, cause?: unknown): UnknownOutcomeError {
  return new UnknownOutcomeError(entry.room, entry.key, why, cause);
}
