// SPDX-License-Identifier: Apache-2.0
// Throng's client for browsers and Node. Made by build.mjs from the sources in clients/js/src:
// change those, and build it again.

/**
 * @file throng.v1 as text: messages `event json` to values and back.
 *
 * Pure. What comes from the server is looked at field by field; whoever reads it here gets values
 * of the types that are written here, or null.
 */

/** A place in a room's history. */
interface Position {
    /** Changes when offsets stop being comparable; otherwise opaque. */
    readonly epoch: string;

    /** Of a publication: the first has 1, and they rise by one. */
    readonly offset: number;
}

/** What a server allows one connection. Null: it did not say. */
interface Limits {
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
interface Hello {
    /** Its name and version, such as `throng/0.1.0`. */
    readonly server: string;

    /** This connection's id: what others see as `from`. Another one after every reconnection. */
    readonly connection: string;

    /** After how many silent milliseconds the connection is looked at; 0 is never. */
    readonly keepaliveMs: number;
    readonly limits: Limits;
}

/**
 * @file How things fail: one class for each kind, with values and not sentences.
 *
 * Every class says in its documentation what is known about the outcome, since that is what a
 * caller has to decide by.
 */

/** What all failures of this library are. Mistakes in its use are `TypeError` or `RangeError`. */
declare class ThrongError extends Error {
    name: string;
}

/**
 * The server refused a request; it was not carried out.
 *
 * With a pause the library asks again by itself, and the refusal is seen only if a publication was
 * refused for as long as it may wait, or if it was an event that was emitted.
 */
declare class RefusedError extends ThrongError {
    name: string;

    /** For programs: `bad_room`, `too_large`, `overloaded`, ... (docs/protocol.md has all). */
    readonly code: string;

    /** The event that was refused, such as `join`; null if the server could not read one. */
    readonly event: string | null;

    /** The room that it was about, as far as the server said. */
    readonly room: string | null;

    /** After how many milliseconds the same may be asked again; null if it is wrong as it is. */
    readonly retryAfterMs: number | null;
}

/**
 * A publication was sent and no answer came: members may have it, now or soon, or never.
 *
 * Publishing the same again with the same key is safe as long as the server remembers the key (five
 * minutes from the first sending, unless its operator chose otherwise). Later it may be delivered
 * twice.
 */
declare class UnknownOutcomeError extends ThrongError {
    name: string;
    readonly room: string;

    /** The key that it was sent with. */
    readonly key: string;
}

/** As many requests wait as may; this one was not taken and nothing was sent. */
declare class QueueFullError extends ThrongError {
    name: string;
    readonly room: string;

    /** The option that sets the bound, or `histories`, which nothing sets. */
    readonly limit: "publishesMax" | "publishBytesMax" | "histories";

    /** The bound. */
    readonly max: number;
}

/** The connection is closed and does not come back by itself; what was asked was not sent. */
declare class ClosedError extends ThrongError {
    name: string;

    /** The close code: the server's, or 1000 if it was {@link Connection.close}. */
    readonly code: number;

    /** The server's reason; empty if it gave none. */
    readonly reason: string;
}

/** {@link Room.leave} came before the answer to {@link Room.join}. */
declare class LeftError extends ThrongError {
    name: string;
    readonly room: string;
}

/**
 * An iterator over publications was read too slowly: its buffer was full, and it has ended.
 *
 * Everything up to {@link LaggedError.position} was handed out. What came after can be had with
 * {@link Room.history}, as long as the server holds it.
 */
declare class LaggedError extends ThrongError {
    name: string;
    readonly room: string;

    /** Of the last publication that the iterator handed out. */
    readonly position: Position;

    /** How many publications the buffer held. */
    readonly bufferMax: number;
}

/** The server said something that throng.v1 does not allow; it was not used. */
declare class ProtocolError extends ThrongError {
    name: string;
}

/**
 * @file What an application may choose, the defaults, and what of the surroundings may be absent.
 *
 * Globals of browsers and of Node are read here and nowhere else, so that tests can put time,
 * chance and sockets in their place.
 */

/** Time, as the library uses it. The default is `Date.now` and the global timers. */
interface Clock {
    /** Milliseconds since 1970. It should go on while the machine sleeps. */
    now(): number;
    setTimeout(callback: () => void, delayMs: number): unknown;
    clearTimeout(timer: unknown): void;
}

/** What the library uses of a WebSocket. Browsers', Node's and npm `ws`'s all have it. */
interface WebSocketLike {
    readonly readyState: number;
    readonly bufferedAmount: number;
    readonly protocol: string;
    send(text: string): void;
    close(code?: number, reason?: string): void;

    /** npm `ws` has it: ends a dead connection at once, where `close` waits for the peer. */
    terminate?(): void;
    addEventListener(type: "open" | "message" | "close" | "error", listener: (event: any) => void): void;
}

/** A class of WebSockets, such as the global one, or npm `ws`'s. */
type WebSocketConstructor = new (url: string, protocols: string) => WebSocketLike;

/** What raises events: of `EventTarget`, the part that is used. */
interface Listenable {
    addEventListener(type: string, listener: () => void): void;
    removeEventListener(type: string, listener: () => void): void;
}

/** What tells that the network or the person is back. */
interface Page {
    /** Raises `online`. */
    readonly window?: Listenable | null;

    /** Raises `visibilitychange`. */
    readonly document?: (Listenable & {
        readonly visibilityState: string;
    }) | null;
}

/** What {@link connect} may be told. Everything has a default. */
interface ConnectOptions {
    /** The class of the socket; needed where there is no global one: Node 20, with npm `ws`. */
    WebSocket?: WebSocketConstructor;

    /**
     * How long a publication may wait for its acknowledgement, in milliseconds from when it was first
     * sent (default 150,000). After that its promise rejects with {@link UnknownOutcomeError}, since
     * a server forgets a key five minutes after it first saw it, and a repeat would then be delivered
     * again. Half of that, because what was sent last may be long under way. Set it to half of the
     * server's window if its operator set another.
     */
    publishTimeoutMs?: number;

    /** The most publications that wait for their acknowledgement (default 1000). */
    publishesMax?: number;

    /** The most bytes of data of such publications, as JSON (default 1,048,576). */
    publishBytesMax?: number;

    /**
     * The most publications of one room that are under way at once (default 1).
     *
     * With 1, a room gets publications in the order of the calls, whatever happens. More is faster
     * where the server is far: with 1, a room takes one publication for each round trip. Then a
     * publication that an overloaded server put off comes after those that were under way with it.
     */
    publishesInFlightMax?: number;

    /** How long an attempt to connect may take, up to the server's greeting (default 15,000 ms). */
    connectTimeoutMs?: number;

    /**
     * What the keys of publications begin with: up to 48 bytes that no other client uses. The default
     * is random.
     */
    keyPrefix?: string;

    /** Time, for tests. */
    clock?: Clock;

    /** Chance, for tests: a number from 0 up to but not including 1. It spreads the pauses. */
    random?: () => number;

    /** Where `online` and `visibilitychange` come from, for tests; null is from nowhere. */
    page?: Page | null;
}

/**
 * @file What members are told of a room: publications, what is missing between them, and events.
 */

/** What was published to a room. It is a {@link Position} itself, to join or to ask from. */
interface Publication extends Position {
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
interface Gap {
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
interface Emission {
    readonly room: string;

    /** Its name, such as `typing`. */
    readonly event: string;

    /** The id of the connection that emitted it; null if it was the server's application. */
    readonly from: string | null;

    /** Any JSON; null if there was none. */
    readonly data: unknown;
}

/**
 * @file Questions for a room's history. They are only read, so a lost connection means to ask
 * again.
 */

/** Which part of a room's history: what comes after a position, or the end of it. */
type HistoryRequest = {
    /** What comes after this position, the oldest first. */
    since: Position;

    /** The most publications to get (the server's default: 100; it also has a limit). */
    limit?: number;
} | {
    /** That many of the last publications, the oldest first. */
    last: number;
};

/** A part of a room's history. */
interface History {
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

/** From where to join. Without it: from now on. */
interface JoinOptions {
    /** What comes after this position is replayed first, as far as the server holds it. */
    since?: Position;

    /** That many of the last publications are replayed first, as far as the server holds them. */
    last?: number;
}

/** A membership that has begun. */
interface Joined {
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
interface RoomEvents {
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

/** What {@link Room.publish} may be told. */
interface PublishOptions {
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
interface Ack {
    readonly room: string;

    /** Its place in the room; null if nobody was there and the room keeps no history. */
    readonly position: Position | null;

    /** Whether the server had it already from an earlier sending. It was not delivered again. */
    readonly duplicate: boolean;

    /** The key that it was sent with. */
    readonly key: string;
}

/**
 * @file Publications of a room as an async iterator.
 */

/** What {@link Room.publications} may be told. */
interface PublicationsOptions {
    /** The most publications that wait to be read (default 1000). */
    bufferMax?: number;
}

/**
 * @file A room, as an application uses it. What it owns is its name; the rest is the connection's.
 */

/**
 * A room of a connection, from {@link Connection.room}.
 *
 * It is a handle: two of the same name and connection are the same room. Promises that it returns
 * may be ignored; `error` of the connection tells of failures too. A mistake in its use is a
 * `TypeError` or a `RangeError`.
 */
declare class Room {
    #private;

    /** What it is called. */
    readonly name: string;

    /** Whether the server counts us as a member now. False while the connection is away. */
    get isJoined(): boolean;

    /**
     * Up to where publications have come; null while the room is not wanted or was never joined. To
     * go on there later, even in another process, keep it and join with `since`.
     */
    get position(): Position | null;

    /**
     * Calls `callback` on what happens in the room: see {@link RoomEvents}.
     *
     * Set callbacks before {@link Room.join} and nothing is missed. They are called in the order in
     * which they were set. One that throws is reported as an uncaught error, and neither the others
     * nor the connection notice. They stay when the room is left.
     *
     * @returns What takes the callback away again.
     */
    on<Event extends keyof RoomEvents>(event: Event, callback: (detail: RoomEvents[Event]) => void): () => void;

    /**
     * Publications from now on, in order, each once. Make it before {@link Room.join}, and it has the
     * replay too.
     *
     * It holds at most `bufferMax` publications (default 1000) that are not read yet. At the bound it
     * takes no more: reading goes on to the last one held and then throws {@link LaggedError}, which
     * says where to go on. It ends when the room is left or {@link Connection.close} is called, and
     * throws if the server closed the connection for good or did not take us in. Callbacks and other
     * iterators of the room are not concerned by any of that.
     */
    publications(options?: PublicationsOptions): AsyncIterableIterator<Publication>;

    /**
     * Joins the room, now and again on every new connection, until {@link Room.leave}. A new
     * connection goes on after the last publication that came.
     *
     * It waits for a connection if there is none. Joining a room that is wanted already changes
     * nothing, and the options are not looked at.
     *
     * @returns Resolves when the membership has begun; publications follow. Rejects with
     *   {@link RefusedError} if the server does not take us in, {@link LeftError} if `leave` comes
     *   before, {@link ClosedError} if the connection is closed; the last does not mean that the room
     *   is not wanted, and {@link Connection.reconnect} will join it.
     */
    join(options?: JoinOptions): Promise<Joined>;

    /**
     * Leaves the room and forgets its position. Nothing of it is seen afterwards, and its iterators
     * end.
     *
     * @returns Resolves when the server has seen it, or the connection is lost, which comes to the
     *   same. Never rejects.
     */
    leave(): Promise<void>;

    /**
     * Publishes to the room, also if it was not joined.
     *
     * It waits for a connection, and is sent again after a lost one until it is acknowledged: members
     * get it once. Publications of a room are sent in the order of the calls.
     *
     * Bounded: at most `publishesMax` publications of `publishBytesMax` bytes wait at a time, over
     * all rooms; one beyond that is rejected at once.
     *
     * @param data What JSON can say. It is read now; later changes are not published.
     * @returns Resolves when the server has taken it. Rejects with {@link RefusedError} (the server
     *   does not take it; or it is larger than its messages may be), {@link QueueFullError}, or
     *   {@link ClosedError}, and then it was not published; or with {@link UnknownOutcomeError}.
     */
    publish(data: unknown, options?: PublishOptions): Promise<Ack>;

    /**
     * Emits an ephemeral event to the members, now or not at all: for what is worthless later, such
     * as `typing`. It has no offset, is not kept, not repeated and not acknowledged.
     *
     * @param event Its name: 1 to 64 bytes without white space that the protocol does not use itself.
     * @param data What JSON can say; nothing is null.
     * @returns Whether the socket took it. False without a connection, and while more than 1 MiB
     *   still waits in the socket. What the server has against it comes as `error` of the connection.
     * @throws {TypeError} If the name cannot be used, or JSON cannot say the data.
     * @throws {RefusedError} If it is larger than the server's messages may be.
     */
    emit(event: string, data?: unknown): boolean;

    /**
     * Asks for a part of the room's history, also if it was not joined. It waits for a connection,
     * and is asked again after a lost one; at most 128 questions wait at a time, over all rooms.
     *
     * @returns Rejects with {@link RefusedError}, {@link QueueFullError} or {@link ClosedError}.
     */
    history(request: HistoryRequest): Promise<History>;
}

/**
 * @file A connection that comes back: its state, its attempts, and who is told of what happens.
 *
 * It owns one {@link Link} at a time and what outlives it: the rooms, the publications that are not
 * acknowledged, the questions that are not answered.
 */

/**
 * What a connection is doing.
 *
 * - `connecting`: an attempt is under way.
 * - `open`: the server has greeted; what is asked goes out at once.
 * - `waiting`: the next attempt is at `retryAt`.
 * - `closed`: it does not come back by itself.
 */
type State = "connecting" | "open" | "waiting" | "closed";

/** The state with what belongs to it. */
interface Status {
    readonly state: State;

    /** When the next attempt begins, as `Date.now()` counts; null unless the state is `waiting`. */
    readonly retryAt: number | null;

    /**
     * How the connection before this state ended: a close code, 1006 without a close frame, 1000 for
     * {@link Connection.close}. Null if there was none, and while it is open.
     */
    readonly code: number | null;

    /** Why, in the server's words; in ours if we gave it up; empty if nobody said. */
    readonly reason: string;
}

/** What {@link Connection.on} tells of. */
interface ConnectionEvents {
    /** The state is another, or `retryAt` is. */
    state: Status;

    /**
     * Something failed: what the server refused, what could not be sent, what it said that makes no
     * sense. Also if a promise has rejected for it, but not if the application wished it so (`close`,
     * `leave`, a signal).
     */
    error: ThrongError;

    /** The server's application sent something that is of no room: to this connection, or to all. */
    event: Sent;
}

/** An event of the server's application that is of no room. */
interface Sent {
    /** Its name. */
    readonly event: string;

    /** Any JSON; null if there was none. */
    readonly data: unknown;
}

/**
 * Opens a connection to a Throng server.
 *
 * It begins at once. Set callbacks in the same turn and none is missed.
 *
 * @param url Where the server's WebSocket is: absolute (`wss://host/ws`), or relative to the page.
 * @throws {TypeError} If that is no address, or there is no WebSocket here.
 * @throws {RangeError} If an option cannot be used.
 */
declare function connect(url: string | URL, options?: ConnectOptions): Connection;

/** A connection that comes back, from {@link connect}. */
declare class Connection {
    #private;

    /** The address, absolute. */
    readonly url: string;

    /** What it is doing now. */
    get state(): State;

    /** What it is doing now, and why. */
    get status(): Status;

    /** The server's greeting; null unless the state is `open`. */
    get hello(): Hello | null;

    /** The names of the rooms that are wanted: joined, or to be joined when that is possible. */
    get rooms(): string[];

    /** How many publications are not acknowledged yet. */
    get unacknowledged(): number;

    /**
     * A room. It costs nothing until it is used.
     *
     * @throws {TypeError} If the name is empty.
     */
    room(name: string): Room;

    /**
     * Calls `callback` on what happens to the connection: see {@link ConnectionEvents}.
     *
     * Callbacks are called in the order in which they were set. One that throws is reported as an
     * uncaught error, and neither the others nor the connection notice.
     *
     * @returns What takes the callback away again.
     */
    on<Event extends keyof ConnectionEvents>(event: Event, callback: (detail: ConnectionEvents[Event]) => void): () => void;

    /**
     * Connects at once, instead of waiting, or of staying closed as the server wished. Rooms that are
     * wanted are joined again. Does nothing in the other states, nor after {@link Connection.close}.
     */
    reconnect(): void;

    /**
     * Closes for good. Everything that waits is settled: promises reject, iterators end. Whether
     * publications that were under way have arrived is unknown, and their promises say so.
     */
    close(): void;
}

export {
    ClosedError,
    LaggedError,
    LeftError,
    ProtocolError,
    QueueFullError,
    RefusedError,
    ThrongError,
    UnknownOutcomeError,
    connect,
};
export type {
    Ack,
    Clock,
    ConnectOptions,
    Connection,
    ConnectionEvents,
    Emission,
    Gap,
    Hello,
    History,
    HistoryRequest,
    JoinOptions,
    Joined,
    Limits,
    Listenable,
    Page,
    Position,
    Publication,
    PublicationsOptions,
    PublishOptions,
    Room,
    RoomEvents,
    Sent,
    State,
    Status,
    WebSocketConstructor,
    WebSocketLike,
};
