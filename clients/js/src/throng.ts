/**
 * @file What the library offers.
 */

export { connect } from "./connection.js";
export type { Connection, ConnectionEvents, Sent, State, Status } from "./connection.js";
export {
  ClosedError,
  LaggedError,
  LeftError,
  ProtocolError,
  QueueFullError,
  RefusedError,
  ThrongError,
  UnknownOutcomeError,
} from "./errors.js";
export type { History, HistoryRequest } from "./histories.js";
export type { JoinOptions, Joined, RoomEvents } from "./membership.js";
export type {
  Clock,
  ConnectOptions,
  Listenable,
  Page,
  WebSocketConstructor,
  WebSocketLike,
} from "./options.js";
export type { Ack, PublishOptions } from "./outbox.js";
export type { Emission, Gap, Publication } from "./publication.js";
export type { Room } from "./room.js";
export type { PublicationsOptions } from "./stream.js";
export type { Hello, Limits, Position } from "./wire.js";
