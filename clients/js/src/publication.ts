/**
 * @file What members are told of a room: publications, what is missing between them, and events.
 */

import { isFields, isOffset, readAmount, readString } from "./wire.js";
import type { Fields, Position } from "./wire.js";

/** What was published to a room. It is a {@link Position} itself, to join or to ask from. */
export interface Publication extends Position {
  readonly room: string;
  /** The id of the connection that published it; null if it was the server's application. */
  readonly from: string | null;
  /** When, by the server's clock, in milliseconds since 1970; null if it did not say. */
  readonly at: number | null;
  /** What was published: any JSON. */
  readonly data: unknown;
  /** What is missing right before it; null if nothing is. */
  readonly gap: Gap | null;
}

/**
 * Publications that were not delivered.
 *
 * - `slow`: this client was too slow for a room that leaves publications out then. The server may
 *   still hold them: ask {@link Room.history}.
 * - `evicted`: while the connection was away, the server forgot them.
 * - `epoch`: while the connection was away, the room's offsets began anew, and how much was
 *   published before that is unknown.
 * - `jump`: offsets were left out and the server did not say why.
 */
export interface Gap {
  readonly room: string;
  readonly reason: "slow" | "evicted" | "epoch" | "jump";
  /** The epoch of `from` and `to`, and the one that the room is in now. */
  readonly epoch: string;
  /** The offset of the first that is missing; null if that is unknown. */
  readonly from: number | null;
  /** The offset of the last that is missing; null if that is unknown. */
  readonly to: number | null;
}

/** An ephemeral event: it has no place in the room's order, and no offset. */
export interface Emission {
  readonly room: string;
  /** Its name, such as `typing`. */
  readonly event: string;
  /** The id of the connection that emitted it; null if it was the server's application. */
  readonly from: string | null;
  /** Any JSON; null if there was none. */
  readonly data: unknown;
}

/** How a server answers a question with `since`, as far as it matters for going on. @internal */
export interface Recovery {
  /** Of the room, or of the last publication in the answer. */
  readonly position: Position;
  /** Whether nothing is missing between `since` and `first`. */
  readonly recovered: boolean;
  /** The offset of the first publication that comes with the answer or behind it. */
  readonly first: number;
}

/** Reads a publication; null if it is none. It is in the epoch that the room is in. @internal */
export function readPublication(fields: Fields, room: string, epoch: string): Publication | null {
  if (!isOffset(fields["offset"]) || !("msg" in fields)) return null;
  return {
    room,
    epoch,
    offset: fields["offset"],
    from: readString(fields["from"]),
    at: readAmount(fields["at"]),
    data: fields["msg"],
    gap: null,
  };
}

/** Reads the publications of an answer; null if one of them is none. @internal */
export function readPublications(
  value: unknown,
  room: string,
  epoch: string,
): Publication[] | null {
  if (!Array.isArray(value)) return null;
  const publications: Publication[] = [];
  for (const item of value as unknown[]) {
    const publication = isFields(item) ? readPublication(item, room, epoch) : null;
    if (publication === null) return null;
    publications.push(publication);
  }
  return publications;
}

/**
 * Reads `recovered` and `first` beside a position; null if they make no sense. Whoever is a member
 * already is not told them, and gets nothing that was before the position.
 *
 * @internal
 */
export function readRecovery(fields: Fields, position: Position): Recovery | null {
  const end = position.offset + 1;
  const first = fields["already"] === true ? end : fields["first"];
  if (!isOffset(first) || first === 0 || first > end) return null;
  return { position, recovered: fields["recovered"] === true, first };
}

/** What is missing between `since` and where a recovery goes on; null if nothing is. @internal */
export function missing(room: string, since: Position, recovery: Recovery): Gap | null {
  const { epoch, offset } = recovery.position;
  const last = recovery.first - 1;
  if (since.epoch !== epoch) return recovery.recovered ? null : unknownGap(room, epoch);
  // Its offsets have gone back: what it has is not what we had.
  if (offset < since.offset) return unknownGap(room, epoch);
  if (last > since.offset) {
    const reason = recovery.recovered ? "jump" : "evicted";
    return { room, reason, epoch, from: since.offset + 1, to: last };
  }
  // It says that something is missing, and not what.
  return recovery.recovered ? null : unknownGap(room, epoch);
}

function unknownGap(room: string, epoch: string): Gap {
  return { room, reason: "epoch", epoch, from: null, to: null };
}
