/**
 * @file One room, as far as this client is or wants to be in it.
 *
 * Invariants:
 *
 * - A room is wanted from `join` until `leave`, a refusal, or the end of the connection object.
 *   Every new connection joins it again, from the position that was reached.
 * - Publications go to the application by rising offset, each once. What is left out is told first,
 *   as a gap; nothing is left out in silence.
 * - What arrives counts only between `joined` and `leave`: what an earlier membership still sends
 *   is not seen.
 */

import { Callbacks } from "./callbacks.js";
import { Deferred, failed } from "./deferred.js";
import { ClosedError, LeftError, ProtocolError, RefusedError } from "./errors.js";
import type { Answer, Exchange, Tell } from "./exchange.js";
import type { Clock } from "./options.js";
import { missing, readPublication, readRecovery } from "./publication.js";
import type { Emission, Gap, Publication, Recovery } from "./publication.js";
import { PublicationStream } from "./stream.js";
import type { PublicationsOptions } from "./stream.js";
import { Timer } from "./timer.js";
import { isOffset, readPosition, readString } from "./wire.js";
import type { Fields, Position } from "./wire.js";

/** From where to join. Without it: from now on. */
export interface JoinOptions {
  /** What comes after this position is replayed first, as far as the server holds it. */
  since?: Position;
  /** That many of the last publications are replayed first, as far as the server holds them. */
  last?: number;
}

/** A membership that has begun. */
export interface Joined {
  readonly room: string;
  /** Where the room was at that moment. */
  readonly position: Position;
  /** The offset of the first publication that is replayed; null if nothing was to be. */
  readonly first: number | null;
  /**
   * Whether nothing is missing since the position that was asked for; null if none was. If it is
   * false, a `gap` says what is.
   */
  readonly recovered: boolean | null;
  /** Whether it was joined before and this is another connection. */
  readonly again: boolean;
}

/** What {@link Room.on} tells of. */
export interface RoomEvents {
  /** Something was published. */
  publication: Publication;
  /** Somebody emitted something. */
  event: Emission;
  /** Publications are missing. It comes before the publications behind it. */
  gap: Gap;
  /** A membership has begun: the first, or one after a reconnection. */
  joined: Joined;
  /** The server did not take us in, or not again; the room is no longer wanted. */
  refused: RefusedError;
}

/** What a membership needs of its connection. @internal */
export interface MembershipHost {
  readonly exchange: Exchange;
  readonly clock: Clock;
  readonly tell: Tell;
  /** The membership may have become of no use to anybody. */
  release(membership: Membership): void;
}

/** One room's state. @internal */
export class Membership {
  readonly name: string;
  readonly #host: MembershipHost;
  readonly #callbacks = new Callbacks<RoomEvents>(ROOM_EVENTS);
  readonly #streams = new Set<PublicationStream>();
  /** Runs while the server wants us to wait before we ask again. */
  readonly #pause: Timer;
  #isWanted = false;
  /** How much is to be replayed while there is no position. */
  #last: number | null = null;
  /** Up to where the application has everything that it will get. */
  #position: Position | null = null;
  /** What is missing right before the next publication. */
  #gap: Gap | null = null;
  /** The question that is under way; null if there is none. */
  #joinId: number | null = null;
  /** The membership on this connection; null if there is none. */
  #joined: Joined | null = null;
  #wasJoined = false;
  /** What `join` promised; null if nobody waits. */
  #waiting: Deferred<Joined> | null = null;
  readonly #leaving = new Set<Deferred<void>>();

  constructor(name: string, host: MembershipHost) {
    this.name = name;
    this.#host = host;
    this.#pause = new Timer(host.clock);
  }

  get position(): Position | null {
    return this.#position;
  }

  get isJoined(): boolean {
    return this.#joined !== null;
  }

  get isWanted(): boolean {
    return this.#isWanted;
  }

  /** Whether nobody would notice if it were forgotten. */
  get isIdle(): boolean {
    const isUsed = this.#isWanted || this.#streams.size > 0 || this.#leaving.size > 0;
    return !isUsed && this.#callbacks.isEmpty;
  }

  // ---- What the application asks ----

  on<Event extends keyof RoomEvents>(
    event: Event,
    callback: (detail: RoomEvents[Event]) => void,
  ): () => void {
    const off = this.#callbacks.on(event, callback);
    return () => {
      off();
      this.#host.release(this);
    };
  }

  stream(options: PublicationsOptions): PublicationStream {
    const { closed, isOver } = this.#host.exchange;
    const stream = new PublicationStream(options, () => {
      this.#streams.delete(stream);
      this.#host.release(this);
    });
    this.#streams.add(stream);
    if (closed) stream.end(isOver ? null : closed);
    return stream;
  }

  join(options: JoinOptions): Promise<Joined> {
    const { closed, isOver } = this.#host.exchange;
    if (closed && isOver) return failed(closed);
    if (this.#joined) return Promise.resolve(this.#joined);
    if (!this.#isWanted) {
      this.#isWanted = true;
      this.#wasJoined = false;
      this.#position = readPosition(options.since);
      this.#last = options.last ?? null;
      this.connected();
    }
    if (closed) return failed(closed);
    this.#waiting ??= new Deferred();
    return this.#waiting.promise;
  }

  leave(): Promise<void> {
    if (!this.#isWanted) return Promise.resolve();
    const isKnown = this.#joined !== null || this.#joinId !== null;
    this.#forget(new LeftError(this.name));
    const left = new Deferred<void>();
    const answered = () => {
      this.#leaving.delete(left);
      left.resolve();
      this.#host.release(this);
    };
    const asked = isKnown ? this.#host.exchange.ask("leave", { room: this.name }, answered) : null;
    if (asked === null) left.resolve();
    else this.#leaving.add(left);
    this.#endStreams();
    this.#host.release(this);
    return left.promise;
  }

  // ---- What becomes of the connection ----

  /** There is a connection: joins, if that is wanted. */
  connected(): void {
    if (!this.#isWanted || this.#pause.isRunning) return;
    const since = this.#position ?? undefined;
    const last = since ? undefined : (this.#last ?? undefined);
    const id = this.#host.exchange.ask("join", { room: this.name, since, last }, (answer) => {
      this.#joinId = null;
      this.#answered(answer, since ?? null);
    });
    this.#joinId = id;
  }

  connectionLost(): void {
    this.#joinId = null;
    this.#joined = null;
    this.#pause.stop();
    for (const left of this.#leaving) left.resolve();
    this.#leaving.clear();
    this.#host.release(this);
  }

  /** The connection does not come back by itself. Nobody waits any longer. */
  closed(error: ClosedError): void {
    this.#waiting?.reject(error);
    this.#waiting = null;
    this.#endStreams(error);
  }

  /** The connection never comes back, as the application wished. */
  closedForGood(error: ClosedError): void {
    this.#forget(error);
    this.#endStreams();
  }

  // ---- What the server says ----

  published(fields: Fields): void {
    if (!this.#joined || !this.#position) return;
    const publication = readPublication(fields, this.name, this.#position.epoch);
    if (publication === null) {
      this.#host.tell(new ProtocolError(`the server sent a "msg" to "${this.name}" that is none`));
      return;
    }
    const expected = this.#position.offset + 1;
    // A repeat: the application has it.
    if (publication.offset < expected) return;
    this.#position = at(publication);
    const isNext = publication.offset === expected;
    const gaps = isNext ? [] : [this.#gapOf("jump", expected, publication.offset - 1)];
    this.#passOn(gaps, publication);
  }

  /** The server left something out. */
  skipped(fields: Fields): void {
    if (!this.#joined || !this.#position) return;
    const { from, to } = fields;
    if (!isOffset(from) || !isOffset(to)) {
      this.#host.tell(new ProtocolError(`the server sent a "gap" in "${this.name}" that is none`));
      return;
    }
    const expected = this.#position.offset + 1;
    if (to < expected) return;
    this.#position = { epoch: this.#position.epoch, offset: to };
    const gaps = [this.#gapOf("slow", Math.max(from, expected), to)];
    if (from > expected) gaps.unshift(this.#gapOf("jump", expected, from - 1));
    this.#passOn(gaps, null);
  }

  emitted(event: string, fields: Fields): void {
    if (!this.#joined) return;
    const from = readString(fields["from"]);
    this.#callbacks.raise("event", { room: this.name, event, from, data: fields["data"] ?? null });
  }

  #answered(answer: Answer, since: Position | null): void {
    if (answer instanceof RefusedError) {
      this.#refused(answer);
      return;
    }
    const position = readPosition(answer.fields["position"]);
    const isReplayed = since !== null || this.#last !== null;
    const recovery = position && isReplayed ? readRecovery(answer.fields, position) : null;
    if (answer.event !== "joined" || !position || (isReplayed && !recovery)) {
      this.#fail(new ProtocolError(`the server's answer to a join of "${this.name}" is none`));
    } else {
      this.#begin(position, since, recovery);
    }
  }

  /** @param recovery What is said of the replay; null if there is none. */
  #begin(position: Position, since: Position | null, recovery: Recovery | null): void {
    const gap = since && recovery && missing(this.name, since, recovery);
    const joined: Joined = {
      room: this.name,
      position,
      first: recovery && recovery.first,
      recovered: since && recovery && recovery.recovered,
      again: this.#wasJoined,
    };
    // In the same epoch a replay may begin before what we have, and we drop what we have.
    const isKept = since !== null && gap === null && since.epoch === position.epoch;
    const reached = recovery ? recovery.first - 1 : position.offset;
    this.#position = { epoch: position.epoch, offset: isKept ? since.offset : reached };
    this.#joined = joined;
    this.#wasJoined = true;
    this.#waiting?.resolve(joined);
    this.#waiting = null;
    this.#callbacks.raise("joined", joined);
    // Who was told may have left, and come back.
    if (gap && this.#joined === joined) this.#passOn([gap], null);
  }

  #refused(error: RefusedError): void {
    if (error.retryAfterMs === null) this.#fail(error);
    else this.#pause.start(error.retryAfterMs, () => this.connected());
  }

  /** The server does not have us; another attempt would be no different. */
  #fail(error: RefusedError | ProtocolError): void {
    this.#forget(error);
    this.#endStreams(error);
    this.#host.tell(error);
    if (error instanceof RefusedError) this.#callbacks.raise("refused", error);
    this.#host.release(this);
  }

  #forget(error: unknown): void {
    this.#isWanted = false;
    this.#host.exchange.forget(this.#joinId);
    this.#joinId = null;
    this.#joined = null;
    this.#position = null;
    this.#gap = null;
    this.#pause.stop();
    this.#waiting?.reject(error);
    this.#waiting = null;
  }

  #endStreams(error: unknown = null): void {
    for (const stream of [...this.#streams]) stream.end(error);
  }

  // ---- What the application is told ----

  #gapOf(reason: "slow" | "jump", from: number, to: number): Gap {
    return { room: this.name, reason, epoch: this.#position?.epoch ?? "", from, to };
  }

  /** Tells of gaps, then of a publication, as long as nobody who is told of one leaves the room. */
  #passOn(gaps: readonly Gap[], publication: Publication | null): void {
    const joined = this.#joined;
    for (const gap of gaps) {
      if (this.#joined !== joined) return;
      this.#gap = this.#gap === null ? gap : joinGaps(this.#gap, gap);
      this.#callbacks.raise("gap", gap);
    }
    if (publication !== null && this.#joined === joined) this.#deliver(publication);
  }

  #deliver(publication: Publication): void {
    const told = this.#gap === null ? publication : { ...publication, gap: this.#gap };
    this.#gap = null;
    for (const stream of [...this.#streams]) stream.push(told);
    this.#callbacks.raise("publication", told);
  }
}

function at({ epoch, offset }: Position): Position {
  return { epoch, offset };
}

/** Two gaps with nothing between them, as one, with the reason of the later. */
function joinGaps(earlier: Gap, later: Gap): Gap {
  if (earlier.epoch !== later.epoch || earlier.from === null || later.from === null) {
    return { ...later, reason: "epoch", from: null, to: null };
  }
  return { ...later, from: earlier.from };
}

const ROOM_EVENTS = ["publication", "event", "gap", "joined", "refused"] as const;
