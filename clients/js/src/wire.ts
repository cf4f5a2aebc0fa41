/**
 * @file throng.v1 as text: messages `event json` to values and back.
 *
 * Pure. What comes from the server is looked at field by field; whoever reads it here gets values
 * of the types that are written here, or null.
 */

/** What `Sec-WebSocket-Protocol` says. @internal */
export const SUBPROTOCOL = "throng.v1";

/** A place in a room's history. */
export interface Position {
  /** Changes when offsets stop being comparable; otherwise opaque. */
  readonly epoch: string;
  /** Of a publication: the first has 1, and they rise by one. */
  readonly offset: number;
}

/** What a server allows one connection. Null: it did not say. */
export interface Limits {
  /** The largest message, in bytes. */
  readonly messageBytes: number | null;
  /** The most rooms that a connection may be in. */
  readonly rooms: number | null;
  /** The longest name of a room, in bytes. */
  readonly roomNameBytes: number | null;
  /** The longest key of a publication, in bytes. */
  readonly keyBytes: number | null;
  /** The most publications in one answer of {@link Room.history}. */
  readonly historyPublications: number | null;
  /** The most bytes of publications in one answer of {@link Room.history}. */
  readonly historyBytes: number | null;
}

/** How a server introduced itself. */
export interface Hello {
  /** Its name and version, such as `throng/0.1.0`. */
  readonly server: string;
  /** This connection's id: what others see as `from`. Another one after every reconnection. */
  readonly connection: string;
  /** After how many silent milliseconds the connection is looked at; 0 is never. */
  readonly keepaliveMs: number;
  readonly limits: Limits;
}

/** The data of a message, nothing known about it yet. @internal */
export type Fields = Readonly<Record<string, unknown>>;

/** A message, taken apart. @internal */
export interface Message {
  readonly event: string;
  /** Empty if the data is no object. */
  readonly fields: Fields;
}

/**
 * Takes a message apart.
 *
 * @throws If its data is not JSON.
 *
 * @internal
 */
export function decode(text: string): Message {
  const space = text.indexOf(" ");
  const event = space < 0 ? text : text.slice(0, space);
  const json = text.slice(event.length + 1);
  const data: unknown = json === "" ? null : JSON.parse(json);
  return { event, fields: isFields(data) ? data : {} };
}

/** A request: `join {"id":1,"room":"lobby"}`. Fields that are undefined are left out. @internal */
export function encode(event: string, fields: Fields): string {
  return `${event} ${JSON.stringify(fields)}`;
}

/** A request to publish, whose data is JSON already. @internal */
export function encodePublish(id: number, room: string, json: string, key: string): string {
  return `msg {"id":${id},"to":${JSON.stringify(room)},"msg":${json},"key":${JSON.stringify(key)}}`;
}

/** Reads a greeting. What it does not say is empty or null. @internal */
export function readHello(fields: Fields): Hello {
  const limits = isFields(fields["limits"]) ? fields["limits"] : {};
  return {
    server: readString(fields["server"]) ?? "",
    connection: readString(fields["connection"]) ?? "",
    keepaliveMs: readAmount(fields["keepalive_ms"]) ?? 0,
    limits: {
      messageBytes: readAmount(limits["message_bytes"]),
      rooms: readAmount(limits["rooms"]),
      roomNameBytes: readAmount(limits["room_name_bytes"]),
      keyBytes: readAmount(limits["key_bytes"]),
      historyPublications: readAmount(limits["history_publications"]),
      historyBytes: readAmount(limits["history_bytes"]),
    },
  };
}

/** Reads a position; null if it is none. @internal */
export function readPosition(value: unknown): Position | null {
  if (!isFields(value)) return null;
  const { epoch, offset } = value;
  if (typeof epoch !== "string" || epoch === "" || !isOffset(offset)) return null;
  return { epoch, offset };
}

/** The text, or null. @internal */
export function readString(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** A number that is not negative: of milliseconds, of bytes, of rooms. @internal */
export function readAmount(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}

/** Whether it is a place in a history: 0 to 2^53-1, whole. @internal */
export function isOffset(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Whether it is an object with fields. @internal */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Events that only the protocol itself may use. @internal */
export function isReserved(event: string): boolean {
  return RESERVED.has(event) || event.startsWith("throng");
}

/** How many bytes of UTF-8 a text is. @internal */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) continue;
    // Each half of a surrogate pair counts two: four bytes for two units. A half that stands alone
    // is sent as U+FFFD, which is three; JSON.stringify escapes those.
    bytes += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return bytes;
}

const RESERVED = new Set(
  "ack drain emit error gap hello history join joined leave left msg ping pong presence".split(" "),
);
