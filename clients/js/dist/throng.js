// SPDX-License-Identifier: Apache-2.0
// Throng's client for browsers and Node. Made by build.mjs from the sources in clients/js/src:
// change those, and build it again.

/**
 * @file When to come back, and whether.
 */

/** First ceiling of the pause before a new attempt; doubles with every failure. */
const CEILING_MIN_MS = 500;

/** Last ceiling of that pause: half of it on average, which a person waits without giving up. */
const CEILING_MAX_MS = 30_000;

/** A connection that lasted this long was a good one: the next failure begins anew. */
const STABLE_MS = 10_000;

/** What was put off is not asked again before this, so that a 0 does not mean "all the time". */
const RETRY_MIN_MS = 100;

/** A pause that a server asks for counts up to here: a wrong figure must not mean "for ever". */
const PAUSE_MAX_MS = 300_000;

/**
 * Standard codes after which the same client would only meet the same end (RFC 6455, section
 * 7.4.1): finished, or the server rejects how we speak. 1009 is not among them: one message was too
 * large.
 */
const FINAL_CODES = new Set([1000, 1002, 1003, 1007, 1008, 1010]);

/** The pauses of one connection: full jitter, so that who was sent away together spreads. */
class Backoff {
    #random;
    #failures = 0;
    constructor(random) {
        this.#random = random;
    }

    /**
     * How long to wait now, in milliseconds.
     *
     * @param lastedMs How long the connection that was lost had been open; 0 if it never was.
     */
    next(lastedMs) {
        if (lastedMs >= STABLE_MS)
            this.#failures = 0;
        const ceiling = Math.min(CEILING_MAX_MS, CEILING_MIN_MS * 2 ** this.#failures);
        this.#failures += 1;
        return this.#random() * ceiling;
    }
}

/** Whether a client should come back after this close code. */
function comesBack(code) {
    return !FINAL_CODES.has(code) && !(code >= 4000 && code <= 4099);
}

/**
 * Reads `{"reason":"drain","after_ms":1730}`; any other text is the reason itself. Codes from 4100
 * to 4199 may ask for a pause, and no others.
 */
function readCloseReason(code, text) {
    let parsed = null;
    try {
        parsed = Object(JSON.parse(text));
    }
    catch {
        // Words for people.
    }

    if (parsed === null || typeof parsed.reason !== "string")
        return { reason: text, afterMs: 0 };
    const asked = code >= 4100 && code <= 4199 ? parsed.after_ms : 0;
    return { reason: parsed.reason, afterMs: readPause(asked) };
}

/** A pause that the server asks for before we come back, made sane: 0 if it is none. */
function readPause(value) {
    return typeof value === "number" && value > 0 ? Math.min(value, PAUSE_MAX_MS) : 0;
}

/** A pause that the server asks for before the same is asked again; null if it is none. */
function readRetry(value) {
    return typeof value === "number" ? Math.max(RETRY_MIN_MS, readPause(value)) : null;
}

/**
 * @file What an application may choose, the defaults, and what of the surroundings may be absent.
 *
 * Globals of browsers and of Node are read here and nowhere else, so that tests can put time,
 * chance and sockets in their place.
 */

/**
 * Fills in the defaults.
 *
 * @throws {TypeError} If there is no WebSocket.
 * @throws {RangeError} If a number cannot be used.
 *
 * @internal
 */
function settle(options) {
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket)
        throw new TypeError("there is no WebSocket here: give one as options.WebSocket");
    const keyPrefix = options.keyPrefix ?? randomPrefix();
    if (keyPrefix === "" || keyPrefix.length > KEY_PREFIX_MAX) {
        throw new RangeError(`keyPrefix: 1 to ${KEY_PREFIX_MAX} characters, not ${keyPrefix.length}`);
    }

    return {
        WebSocket,
        publishTimeoutMs: positive("publishTimeoutMs", options.publishTimeoutMs ?? 150_000),
        publishesMax: positive("publishesMax", options.publishesMax ?? 1000),
        publishBytesMax: positive("publishBytesMax", options.publishBytesMax ?? 1 << 20),
        publishesInFlightMax: positive("publishesInFlightMax", options.publishesInFlightMax ?? 1),
        connectTimeoutMs: positive("connectTimeoutMs", options.connectTimeoutMs ?? 15_000),
        keyPrefix,
        clock: options.clock ?? SYSTEM_CLOCK,
        random: options.random ?? Math.random,
        page: options.page === undefined ? thisPage() : (options.page ?? {}),
    };
}

/**
 * The address of a WebSocket as an absolute one. A relative one is relative to the page, whose
 * scheme then says whether it is `ws` or `wss`.
 *
 * @throws {TypeError} If it is none.
 *
 * @internal
 */
function resolveUrl(url) {
    const base = globalThis.document?.baseURI ?? globalThis.location?.href;
    const resolved = new URL(url, base);
    resolved.protocol = resolved.protocol.replace(/^http/, "ws");
    if (!/^wss?:$/.test(resolved.protocol))
        throw new TypeError(`no address of a WebSocket: ${url}`);
    resolved.hash = "";
    return resolved.href;
}

/** Tells whoever looks after this page or process that a callback has thrown. @internal */
function report(error) {
    if (typeof globalThis.reportError === "function")
        globalThis.reportError(error);
    else
        queueMicrotask(() => {
            throw error;
        });
}

/** @throws {RangeError} If it is not above zero, or too much for a timer. @internal */
function positive(name, value) {
    if (typeof value === "number" && value > 0 && value <= TIMER_MAX_MS)
        return value;
    throw new RangeError(`${name}: more than 0 and at most ${TIMER_MAX_MS}, not ${value}`);
}

function randomPrefix() {
    // 96 bits: nobody meets another's by chance, and nobody guesses it to publish in its place.
    const words = crypto.getRandomValues(new Uint32Array(3));
    return Array.from(words, (word) => word.toString(36)).join("");
}

function thisPage() {
    return {
        window: typeof globalThis.addEventListener === "function" ? globalThis : null,
        document: globalThis.document ?? null,
    };
}

const SYSTEM_CLOCK = {
    now: () => Date.now(),
    setTimeout: (callback, delayMs) => setTimeout(callback, delayMs),
    clearTimeout: (timer) => clearTimeout(timer),
};

/** What a timer can wait: longer delays would run out at once. @internal */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** A key is at most 64 bytes, and the rest is a hyphen and a counter. */
const KEY_PREFIX_MAX = 48;

/**
 * @file Who wants to be told of what.
 */

/** Callbacks by event. One that throws is reported, and neither the others nor we notice. */
class Callbacks {
    #lists = new Map();

    /** @param events Every event that there is. */
    constructor(events) {
        for (const event of events)
            this.#lists.set(event, []);
    }

    get isEmpty() {
        return [...this.#lists.values()].every((list) => list.length === 0);
    }

    /**
     * Adds a callback and returns what takes it away again.
     *
     * @throws {TypeError} If there is no such event: it would never be called.
     */
    on(event, callback) {
        const before = this.#lists.get(event);
        if (!before)
            throw new TypeError(`there is no event "${String(event)}" here`);
        // Of its own for each call: the same function may be there twice. Lists are replaced and never
        // changed, so that callbacks may add and take away callbacks while they are called.
        const entry = (detail) => callback(detail);
        this.#lists.set(event, [...before, entry]);
        return () => {
            const now = this.#lists.get(event) ?? [];
            this.#lists.set(event, now.filter((other) => other !== entry));
        };
    }

    /** Calls them in the order in which they were added. */
    raise(event, detail) {
        for (const callback of this.#lists.get(event) ?? []) {
            // One that was called before it may have taken it away.
            if (!this.#lists.get(event)?.includes(callback))
                continue;
            try {
                callback(detail);
            }
            catch (error) {
                report(error);
            }
        }
    }
}

/**
 * @file How things fail: one class for each kind, with values and not sentences.
 *
 * Every class says in its documentation what is known about the outcome, since that is what a
 * caller has to decide by.
 */

/** What all failures of this library are. Mistakes in its use are `TypeError` or `RangeError`. */
class ThrongError extends Error {
    name = "ThrongError";
}

/**
 * The server refused a request; it was not carried out.
 *
 * With a pause the library asks again by itself, and the refusal is seen only if a publication was
 * refused for as long as it may wait, or if it was an event that was emitted.
 */
class RefusedError extends ThrongError {
    name = "RefusedError";

    /** For programs: `bad_room`, `too_large`, `overloaded`, ... (docs/protocol.md has all). */
    code;

    /** The event that was refused, such as `join`; null if the server could not read one. */
    event;

    /** The room that it was about, as far as the server said. */
    room;

    /** After how many milliseconds the same may be asked again; null if it is wrong as it is. */
    retryAfterMs;

    /** @internal */
    constructor(code, message, about = {}) {
        super(message || code);
        this.code = code;
        this.event = about.event ?? null;
        this.room = about.room ?? null;
        this.retryAfterMs = about.retryAfterMs ?? null;
    }
}

/**
 * A publication was sent and no answer came: members may have it, now or soon, or never.
 *
 * Publishing the same again with the same key is safe as long as the server remembers the key (five
 * minutes from the first sending, unless its operator chose otherwise). Later it may be delivered
 * twice.
 */
class UnknownOutcomeError extends ThrongError {
    name = "UnknownOutcomeError";
    room;

    /** The key that it was sent with. */
    key;

    /** @internal */
    constructor(room, key, why, cause) {
        super(`whether a publication to "${room}" was delivered is unknown: ${why}`, { cause });
        this.room = room;
        this.key = key;
    }
}

/** As many requests wait as may; this one was not taken and nothing was sent. */
class QueueFullError extends ThrongError {
    name = "QueueFullError";
    room;

    /** The option that sets the bound, or `histories`, which nothing sets. */
    limit;

    /** The bound. */
    max;

    /** @internal */
    constructor(room, limit, max) {
        super(`too much waits already for what "${room}" was asked (${limit}: ${max})`);
        this.room = room;
        this.limit = limit;
        this.max = max;
    }
}

/** The connection is closed and does not come back by itself; what was asked was not sent. */
class ClosedError extends ThrongError {
    name = "ClosedError";

    /** The close code: the server's, or 1000 if it was {@link Connection.close}. */
    code;

    /** The server's reason; empty if it gave none. */
    reason;

    /** @internal */
    constructor(code, reason) {
        super(`the connection is closed (${code}${reason && `, ${reason}`})`);
        this.code = code;
        this.reason = reason;
    }
}

/** {@link Room.leave} came before the answer to {@link Room.join}. */
class LeftError extends ThrongError {
    name = "LeftError";
    room;

    /** @internal */
    constructor(room) {
        super(`left "${room}" before it was joined`);
        this.room = room;
    }
}

/**
 * An iterator over publications was read too slowly: its buffer was full, and it has ended.
 *
 * Everything up to {@link LaggedError.position} was handed out. What came after can be had with
 * {@link Room.history}, as long as the server holds it.
 */
class LaggedError extends ThrongError {
    name = "LaggedError";
    room;

    /** Of the last publication that the iterator handed out. */
    position;

    /** How many publications the buffer held. */
    bufferMax;

    /** @internal */
    constructor(room, position, bufferMax) {
        super(`the reader of "${room}" is more than ${bufferMax} publications behind`);
        this.room = room;
        this.position = position;
        this.bufferMax = bufferMax;
    }
}

/** The server said something that throng.v1 does not allow; it was not used. */
class ProtocolError extends ThrongError {
    name = "ProtocolError";

    /** @internal */
    constructor(what, cause) {
        super(what, { cause });
    }
}

/**
 * @file throng.v1 as text: messages `event json` to values and back.
 *
 * Pure. What comes from the server is looked at field by field; whoever reads it here gets values
 * of the types that are written here, or null.
 */

/** What `Sec-WebSocket-Protocol` says. @internal */
const SUBPROTOCOL = "throng.v1";

/**
 * Takes a message apart.
 *
 * @throws If its data is not JSON.
 *
 * @internal
 */
function decode(text) {
    const space = text.indexOf(" ");
    const event = space < 0 ? text : text.slice(0, space);
    const json = text.slice(event.length + 1);
    const data = json === "" ? null : JSON.parse(json);
    return { event, fields: isFields(data) ? data : {} };
}

/** A request: `join {"id":1,"room":"lobby"}`. Fields that are undefined are left out. @internal */
function encode(event, fields) {
    return `${event} ${JSON.stringify(fields)}`;
}

/** A request to publish, whose data is JSON already. @internal */
function encodePublish(id, room, json, key) {
    return `msg {"id":${id},"to":${JSON.stringify(room)},"msg":${json},"key":${JSON.stringify(key)}}`;
}

/** Reads a greeting. What it does not say is empty or null. @internal */
function readHello(fields) {
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
function readPosition(value) {
    if (!isFields(value))
        return null;
    const { epoch, offset } = value;
    if (typeof epoch !== "string" || epoch === "" || !isOffset(offset))
        return null;
    return { epoch, offset };
}

/** The text, or null. @internal */
function readString(value) {
    return typeof value === "string" ? value : null;
}

/** A number that is not negative: of milliseconds, of bytes, of rooms. @internal */
function readAmount(value) {
    return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}

/** Whether it is a place in a history: 0 to 2^53-1, whole. @internal */
function isOffset(value) {
    return Number.isSafeInteger(value) && value >= 0;
}

/** Whether it is an object with fields. @internal */
function isFields(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Events that only the protocol itself may use. @internal */
function isReserved(event) {
    return RESERVED.has(event) || event.startsWith("throng");
}

/** How many bytes of UTF-8 a text is. @internal */
function utf8Length(text) {
    let bytes = text.length;
    for (let index = 0; index < text.length; index += 1) {
        const unit = text.charCodeAt(index);
        if (unit < 0x80)
            continue;
        // Each half of a surrogate pair counts two: four bytes for two units. A half that stands alone
        // is sent as U+FFFD, which is three; JSON.stringify escapes those.
        bytes += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
    }

    return bytes;
}

const RESERVED = new Set("ack drain emit error gap hello history join joined leave left msg ping pong presence".split(" "));

/**
 * @file What is asked of the server on the connection that there is now, and who waits for answers.
 *
 * An answer belongs to its connection: with it, all questions are forgotten, and whoever asked asks
 * again on the next one. So nothing here outlives a connection, and an answer never meets a
 * question of another.
 */

/** What `emit` gives up at: this much that the socket has not sent yet, in bytes. */
const BUFFERED_BYTES_MAX = 1 << 20;

/** Questions by their ids. */
class Exchange {
    #link = null;
    #nextId = 1;
    #waiting = new Map();

    /** Why there will be no connection; null while there may be one. */
    closed = null;

    /** Whether that is for good. */
    isOver = false;
    get isOpen() {
        return this.#link?.isOpen ?? false;
    }

    /** What the server allows; null without a connection. */
    get limits() {
        return this.#link?.hello?.limits ?? null;
    }

    /** @param link The new connection, which is open, or null if it was lost. */
    use(link) {
        this.#link = link;
        this.#waiting.clear();
    }

    /** A number that no other question has. */
    takeId() {
        const id = this.#nextId;
        this.#nextId += 1;
        return id;
    }

    /**
     * Asks.
     *
     * @param answered Is called once at most, and not if the connection is lost before.
     * @returns The question's id, or null if there is no connection to ask on and nothing happened.
     */
    ask(event, fields, answered) {
        if (!this.isOpen)
            return null;
        const id = this.takeId();
        return this.askText(id, encode(event, { id, ...fields }), answered);
    }

    /** Asks with a message that carries `id`. */
    askText(id, text, answered) {
        if (!this.#link?.isOpen)
            return null;
        this.#waiting.set(id, answered);
        this.#link.send(text);
        return id;
    }

    /** No longer waits for an answer. */
    forget(id) {
        if (id !== null)
            this.#waiting.delete(id);
    }

    /** Sends a message that has no answer, unless the socket is behind. */
    tell(text) {
        if (!this.#link?.isOpen || this.#link.bufferedBytes > BUFFERED_BYTES_MAX)
            return false;
        this.#link.send(text);
        return true;
    }

    /** Hands an answer to whoever asked. Returns whether anybody did. */
    answer(id, answer) {
        const answered = typeof id === "number" ? this.#waiting.get(id) : undefined;
        if (!answered)
            return false;
        this.#waiting.delete(id);
        answered(answer);
        return true;
    }
}

/**
 * @file A promise that somebody else settles.
 */

/** Settling it a second time does nothing. */
class Deferred {
    promise;
    resolve;
    reject;
    constructor() {
        this.promise = new Promise((resolve, reject) => {
            this.resolve = resolve;
            this.reject = reject;
        });
        handled(this.promise);
    }
}

/**
 * Marks a promise as looked at. An application may ignore what becomes of a request, and a lost
 * connection must not end its process for that; `error` of the connection tells of failures anyway.
 */
function handled(promise) {
    promise.catch(() => { });
    return promise;
}

/** A promise that has failed already. */
function failed(error) {
    return handled(Promise.reject(error));
}

/**
 * @file What members are told of a room: publications, what is missing between them, and events.
 */

/** Reads a publication; null if it is none. It is in the epoch that the room is in. @internal */
function readPublication(fields, room, epoch) {
    if (!isOffset(fields["offset"]) || !("msg" in fields))
        return null;
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
function readPublications(value, room, epoch) {
    if (!Array.isArray(value))
        return null;
    const publications = [];
    for (const item of value) {
        const publication = isFields(item) ? readPublication(item, room, epoch) : null;
        if (publication === null)
            return null;
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
function readRecovery(fields, position) {
    const end = position.offset + 1;
    const first = fields["already"] === true ? end : fields["first"];
    if (!isOffset(first) || first === 0 || first > end)
        return null;
    return { position, recovered: fields["recovered"] === true, first };
}

/** What is missing between `since` and where a recovery goes on; null if nothing is. @internal */
function missing(room, since, recovery) {
    const { epoch, offset } = recovery.position;
    const last = recovery.first - 1;
    if (since.epoch !== epoch)
        return recovery.recovered ? null : unknownGap(room, epoch);
    // Its offsets have gone back: what it has is not what we had.
    if (offset < since.offset)
        return unknownGap(room, epoch);
    if (last > since.offset) {
        const reason = recovery.recovered ? "jump" : "evicted";
        return { room, reason, epoch, from: since.offset + 1, to: last };
    }

    // It says that something is missing, and not what.
    return recovery.recovered ? null : unknownGap(room, epoch);
}

function unknownGap(room, epoch) {
    return { room, reason: "epoch", epoch, from: null, to: null };
}

/**
 * @file One thing that is to happen later.
 */

/** A timer that holds one callback at most: starting it again forgets the one before. */
class Timer {
    #clock;
    #pending = null;
    constructor(clock) {
        this.#clock = clock;
    }

    get isRunning() {
        return this.#pending !== null;
    }

    start(delayMs, callback) {
        this.stop();
        const run = () => {
            this.#pending = null;
            callback();
        };
        this.#pending = this.#clock.setTimeout(run, Math.min(Math.max(0, delayMs), TIMER_MAX_MS));
    }

    stop() {
        if (this.#pending === null)
            return;
        this.#clock.clearTimeout(this.#pending);
        this.#pending = null;
    }
}

/**
 * @file Questions for a room's history. They are only read, so a lost connection means to ask
 * again.
 */

/** The most questions that wait: they are small, and more than this is a mistake. */
const HISTORIES_MAX = 128;

/** The questions of one connection. @internal */
class Histories {
    #exchange;
    #clock;
    #tell;
    #entries = new Set();
    constructor(exchange, clock, tell) {
        this.#exchange = exchange;
        this.#clock = clock;
        this.#tell = tell;
    }

    ask(room, request) {
        if (this.#exchange.closed)
            return failed(this.#exchange.closed);
        if (this.#entries.size >= HISTORIES_MAX) {
            const error = new QueueFullError(room, "histories", HISTORIES_MAX);
            this.#tell(error);
            return failed(error);
        }
        const pause = new Timer(this.#clock);
        const entry = { room, request, history: new Deferred(), pause };
        this.#entries.add(entry);
        this.#send(entry);
        return entry.history.promise;
    }

    connected() {
        for (const entry of this.#entries)
            if (!entry.pause.isRunning)
                this.#send(entry);
    }

    close(error) {
        for (const entry of this.#entries) {
            entry.pause.stop();
            entry.history.reject(error);
        }
        this.#entries.clear();
    }

    #send(entry) {
        const { room, request } = entry;
        this.#exchange.ask("history", { room, ...request }, (answer) => this.#answered(entry, answer));
    }

    #answered(entry, answer) {
        if (answer instanceof RefusedError && answer.retryAfterMs !== null) {
            entry.pause.start(answer.retryAfterMs, () => this.#send(entry));
            return;
        }
        this.#entries.delete(entry);
        const result = answer instanceof RefusedError ? answer : read(entry, answer);
        if (result instanceof Error) {
            entry.history.reject(result);
            this.#tell(result);
        }
        else {
            entry.history.resolve(result);
        }
    }
}

function read({ room, request }, answer) {
    const { position: place, publications: items, more } = answer.fields;
    const position = readPosition(place);
    const publications = readPublications(items, room, position?.epoch ?? "");
    const isNone = position === null && place !== null;
    const nonsense = new ProtocolError(`the server's answer about the history of "${room}" is none`);
    if (answer.event !== "history" || isNone || publications === null)
        return nonsense;
    const history = { room, position, publications, more: more === true, recovered: null };
    if (!request.since || position === null)
        return history;
    const recovery = readRecovery(answer.fields, position);
    if (recovery === null)
        return nonsense;
    const gap = missing(room, request.since, recovery);
    const [first, ...rest] = publications;
    const told = first && gap ? [{ ...first, gap }, ...rest] : publications;
    return { ...history, publications: told, recovered: recovery.recovered };
}

/**
 * @file Finding out that a connection is dead, which TCP alone tells after minutes or never.
 */

/** How long a peer that was asked may stay silent, in milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Watches one connection. Anything that is heard shows that it lives. */
class Liveness {
    #clock;
    #keepaliveMs;
    #ask;
    #dead;
    #timer;
    #heardAt;

    /** Whether the peer was asked and has not been heard since. */
    #asked = false;

    /**
     * @param keepaliveMs After how much silence to ask; 0 is never, unless by {@link Liveness.probe}.
     * @param ask Asks the peer for an answer.
     * @param dead Is called once at most, when none came; nothing happens after that.
     */
    constructor(clock, keepaliveMs, ask, dead) {
        this.#clock = clock;
        this.#keepaliveMs = keepaliveMs;
        this.#ask = ask;
        this.#dead = dead;
        this.#timer = new Timer(clock);
        this.#heardAt = clock.now();
        this.#watch();
    }

    /** Something came. Cheap: the timer is left alone and looks at this when it runs out. */
    heard() {
        this.#heardAt = this.#clock.now();
        this.#asked = false;
    }

    /** Asks now. */
    probe() {
        if (this.#asked)
            return;
        this.#asked = true;
        this.#timer.start(ANSWER_TIMEOUT_MS, () => {
            if (this.#asked)
                this.#dead();
            else
                this.#watch();
        });
        this.#ask();
    }

    stop() {
        this.#timer.stop();
    }

    #watch() {
        if (this.#keepaliveMs === 0)
            return;
        const now = this.#clock.now();
        // A clock that was set back must not make the silence longer than it is by more than this once.
        this.#heardAt = Math.min(this.#heardAt, now);
        const silentMs = now - this.#heardAt;
        if (silentMs >= this.#keepaliveMs)
            this.probe();
        else
            this.#timer.start(this.#keepaliveMs - silentMs, () => this.#watch());
    }
}

/**
 * @file One WebSocket, from the attempt to its end.
 *
 * It is open when the server has greeted. It ends once, by {@link LinkOwner.lost} or by
 * {@link Link.end}, and nothing is heard of it afterwards, whatever its socket still does.
 */

/** `readyState` of a WebSocket that takes messages. */
const OPEN = 1;

/**
 * Of every `ping`; other requests count from 1. Who answers does not matter, only that somebody
 * does.
 */
const PING_ID = 0;

/** No close frame came (RFC 6455, section 7.4.1). */
const ABNORMAL = 1006;

/** A socket that the owner uses until it is lost. */
class Link {
    #owner;
    #settings;
    #socket;
    #attempt;
    #liveness = null;
    #hello = null;
    #isOver = false;

    /** What a `drain` asked for, should the close frame not say it or never come. */
    #drainMs = 0;

    /** @throws If the surroundings forbid such a connection. */
    constructor(url, settings, owner) {
        this.#owner = owner;
        this.#settings = settings;
        this.#attempt = new Timer(settings.clock);
        this.#socket = new settings.WebSocket(url, SUBPROTOCOL);
        this.#listen("open", () => this.#handleOpen());
        this.#listen("message", ({ data }) => this.#handleMessage(data));
        this.#listen("close", ({ code, reason }) => this.#handleClose(code, String(reason ?? "")));
        // A `close` follows. Without a listener, npm `ws` would end the process.
        this.#listen("error", () => { });
        this.#attempt.start(settings.connectTimeoutMs, () => this.#giveUp("connect timeout"));
    }

    /** The server's greeting; null until it came. */
    get hello() {
        return this.#hello;
    }

    /** Whether what is sent now goes out. */
    get isOpen() {
        return !this.#isOver && this.#hello !== null && this.#socket.readyState === OPEN;
    }

    /** Bytes that the socket took and has not yet sent. */
    get bufferedBytes() {
        return this.#socket.bufferedAmount;
    }

    /** Sends a message; the link must be open. */
    send(text) {
        this.#socket.send(text);
    }

    /** Asks the server for a sign of life, if it has greeted. */
    probe() {
        this.#liveness?.probe();
    }

    /** Ends it without telling the owner. A server that listens is told that we are done. */
    end() {
        this.#finish();
        this.#socket.close(1000);
    }

    #listen(type, handle) {
        this.#socket.addEventListener(type, (event) => {
            if (!this.#isOver)
                handle(event);
        });
    }

    #handleOpen() {
        const spoken = this.#socket.protocol;
        if (spoken === SUBPROTOCOL)
            return;
        this.#owner.misheard(new ProtocolError(`the server speaks "${spoken}", not ${SUBPROTOCOL}`));
        this.#giveUp("wrong subprotocol");
    }

    #handleMessage(data) {
        this.#liveness?.heard();
        const message = this.#decode(data);
        if (message === null)
            return;
        if (this.#hello === null)
            this.#greet(message);
        else if (message.event === "drain")
            this.#drainMs = readPause(message.fields["after_ms"]);
        else
            this.#owner.message(message.event, message.fields);
    }

    #decode(data) {
        try {
            if (typeof data === "string")
                return decode(data);
            this.#owner.misheard(new ProtocolError("the server sent a binary message"));
        }
        catch (cause) {
            this.#owner.misheard(new ProtocolError("the server sent data that is not JSON", cause));
        }
        return null;
    }

    #greet({ event, fields }) {
        if (event !== "hello") {
            this.#owner.misheard(new ProtocolError(`the server began with "${event}", not with hello`));
            this.#giveUp("no hello");
            return;
        }
        this.#attempt.stop();
        const hello = readHello(fields);
        this.#hello = hello;
        this.#liveness = new Liveness(this.#settings.clock, hello.keepaliveMs, () => this.isOpen && this.send(encode("ping", { id: PING_ID })), () => this.#giveUp("silent server"));
        this.#owner.opened(hello);
    }

    #handleClose(code, text) {
        const { reason, afterMs } = readCloseReason(code, text);
        this.#lose({ code, reason, afterMs: Math.max(afterMs, this.#drainMs) });
    }

    /** The socket may take minutes to find out that nobody is there; nobody waits for that. */
    #giveUp(reason) {
        if (this.#isOver)
            return;
        this.#lose({ code: ABNORMAL, reason, afterMs: this.#drainMs }, () => {
            if (this.#socket.terminate)
                this.#socket.terminate();
            else
                this.#socket.close(1000);
        });
    }

    #lose(end, abandon) {
        this.#finish();
        abandon?.();
        this.#owner.lost(end);
    }

    #finish() {
        this.#isOver = true;
        this.#attempt.stop();
        this.#liveness?.stop();
    }
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

/** The longest key that throng.v1 has, in bytes. */
const KEY_BYTES_MAX = 64;

/** The publications of one connection. @internal */
class Outbox {
    #settings;
    #exchange;
    #tell;
    #lanes = new Map();
    #count = 0;
    #bytes = 0;
    #keyCount = 0;
    constructor(settings, exchange, tell) {
        this.#settings = settings;
        this.#exchange = exchange;
        this.#tell = tell;
    }

    /** How many publications wait for their acknowledgement. */
    get count() {
        return this.#count;
    }

    publish(room, data, options) {
        // As it is now: what the application changes afterwards is not published.
        const json = JSON.stringify(data);
        if (json === undefined)
            throw new TypeError("JSON cannot say what is to be published");
        const key = options.key ?? this.#nextKey();
        if (key === "" || utf8Length(key) > KEY_BYTES_MAX) {
            throw new TypeError(`key: 1 to ${KEY_BYTES_MAX} bytes, not ${utf8Length(key)}`);
        }
        if (options.signal?.aborted)
            return failed(options.signal.reason);
        if (this.#exchange.closed)
            return failed(this.#exchange.closed);
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
    connected() {
        for (const room of [...this.#lanes.keys()])
            this.#advance(room);
    }

    connectionLost() {
        for (const { entries } of this.#lanes.values()) {
            for (const entry of entries) {
                // They are sent in order: behind one that never was, none was.
                if (entry.firstSentAt === null)
                    break;
                entry.isDoubtful ||= entry.id !== null;
                entry.id = null;
            }
        }
    }

    /** The connection does not come back by itself. Nobody waits any longer. */
    close(error, isTold) {
        // All of them first: who is told of one may publish again.
        const entries = [...this.#lanes.values()].flatMap((lane) => [...lane.entries]);
        for (const entry of entries) {
            const isUnknown = entry.isDoubtful || entry.id !== null;
            const why = "the connection was closed";
            this.#fail(entry, isUnknown ? unknownOutcome(entry, why, error) : error, isTold);
        }
    }

    #nextKey() {
        this.#keyCount += 1;
        return `${this.#settings.keyPrefix}-${this.#keyCount.toString(36)}`;
    }

    #entry(room, key, json) {
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
            settled: () => { },
        };
    }

    /** A message over the server's limit would end the connection, again and again. */
    #tooLarge(entry, id) {
        const max = this.#exchange.limits?.messageBytes ?? null;
        // Most are far below: JSON makes six bytes of a unit at most, and the rest is less than 64.
        const { length } = entry.room + entry.key;
        if (max === null || entry.bytes + 6 * length + 64 <= max)
            return null;
        const bytes = utf8Length(encodePublish(id, entry.room, entry.json, entry.key));
        if (bytes <= max)
            return null;
        const message = `a message of ${bytes} bytes, and the server takes ${max}`;
        return new RefusedError("too_large", message, { event: "msg", room: entry.room });
    }

    #full(entry) {
        const { publishesMax, publishBytesMax } = this.#settings;
        if (this.#count + 1 > publishesMax) {
            return new QueueFullError(entry.room, "publishesMax", publishesMax);
        }
        if (this.#bytes + entry.bytes > publishBytesMax) {
            return new QueueFullError(entry.room, "publishBytesMax", publishBytesMax);
        }
        return null;
    }

    #add(entry) {
        let lane = this.#lanes.get(entry.room);
        if (!lane) {
            lane = { entries: new Set(), pause: new Timer(this.#settings.clock) };
            this.#lanes.set(entry.room, lane);
        }
        lane.entries.add(entry);
        this.#count += 1;
        this.#bytes += entry.bytes;
    }

    #follow(entry, signal) {
        if (!signal)
            return;
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
    #advance(room) {
        const lane = this.#lanes.get(room);
        if (!lane || lane.pause.isRunning)
            return;
        let ahead = 0;
        for (const entry of lane.entries) {
            if (!this.#exchange.isOpen || ahead >= this.#settings.publishesInFlightMax)
                return;
            if (entry.id !== null || this.#send(lane, entry))
                ahead += 1;
        }
    }

    /** Sends one that is not under way. Returns whether it is now. */
    #send(lane, entry) {
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

    #answered(lane, entry, answer) {
        entry.id = null;
        if (answer instanceof RefusedError && answer.retryAfterMs !== null) {
            entry.refusal = answer;
            lane.pause.start(answer.retryAfterMs, () => this.#advance(entry.room));
            return;
        }
        if (answer instanceof RefusedError) {
            this.#refuse(entry, answer);
        }
        else if (answer.event === "ack") {
            this.#remove(entry);
            const { room, key } = entry;
            const position = readPosition(answer.fields["position"]);
            entry.ack.resolve({ room, key, position, duplicate: answer.fields["duplicate"] === true });
        }
        else {
            const error = new ProtocolError(`the server answered a publication with "${answer.event}"`);
            this.#fail(entry, unknownOutcome(entry, "the server's answer makes no sense", error), true);
        }
        this.#advance(entry.room);
    }

    /** It is not taken now. Whether it was taken before is another question. */
    #refuse(entry, refusal) {
        const why = "an answer was lost, and then it was refused";
        this.#fail(entry, entry.isDoubtful ? unknownOutcome(entry, why, refusal) : refusal, true);
    }

    /** It has waited as long as it may. */
    #expire(entry) {
        const isUnknown = entry.isDoubtful || entry.id !== null || entry.refusal === null;
        const why = "no answer came in time, and the server may soon forget its key";
        this.#fail(entry, isUnknown ? unknownOutcome(entry, why) : entry.refusal, true);
    }

    #fail(entry, error, isTold) {
        this.#remove(entry);
        entry.ack.reject(error);
        if (isTold)
            this.#tell(error);
    }

    #remove(entry) {
        const lane = this.#lanes.get(entry.room);
        if (!lane?.entries.delete(entry))
            return;
        this.#count -= 1;
        this.#bytes -= entry.bytes;
        this.#exchange.forget(entry.id);
        entry.id = null;
        entry.deadline.stop();
        entry.settled();
        if (lane.entries.size > 0)
            return;
        lane.pause.stop();
        this.#lanes.delete(entry.room);
    }
}

function unknownOutcome(entry, why, cause) {
    return new UnknownOutcomeError(entry.room, entry.key, why, cause);
}

/**
 * @file A room, as an application uses it. What it owns is its name; the rest is the connection's.
 */

/** The longest name of an event, in bytes. */
const EVENT_BYTES_MAX = 64;

/**
 * A room of a connection, from {@link Connection.room}.
 *
 * It is a handle: two of the same name and connection are the same room. Promises that it returns
 * may be ignored; `error` of the connection tells of failures too. A mistake in its use is a
 * `TypeError` or a `RangeError`.
 */
class Room {
    /** What it is called. */
    name;
    #of;

    /** @internal */
    constructor(name, of) {
        this.name = name;
        this.#of = of;
    }

    /** Whether the server counts us as a member now. False while the connection is away. */
    get isJoined() {
        return this.#of.rooms.find(this.name)?.isJoined ?? false;
    }

    /**
     * Up to where publications have come; null while the room is not wanted or was never joined. To
     * go on there later, even in another process, keep it and join with `since`.
     */
    get position() {
        return this.#of.rooms.find(this.name)?.position ?? null;
    }

    /**
     * Calls `callback` on what happens in the room: see {@link RoomEvents}.
     *
     * Set callbacks before {@link Room.join} and nothing is missed. They are called in the order in
     * which they were set. One that throws is reported as an uncaught error, and neither the others
     * nor the connection notice. They stay when the room is left.
     *
     * @returns What takes the callback away again.
     */
    on(event, callback) {
        return this.#of.rooms.use(this.name).on(event, callback);
    }

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
    publications(options = {}) {
        return this.#of.rooms.use(this.name).stream(options);
    }

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
    join(options = {}) {
        const { since, last } = options;
        if (since !== undefined && last !== undefined)
            return misuse("join: since or last, not both");
        if (since !== undefined && readPosition(since) === null)
            return misuse("join: since is none");
        if (last !== undefined && !isCount(last))
            return misuse("join: last is no number of them");
        return this.#of.rooms.use(this.name).join(options);
    }

    /**
     * Leaves the room and forgets its position. Nothing of it is seen afterwards, and its iterators
     * end.
     *
     * @returns Resolves when the server has seen it, or the connection is lost, which comes to the
     *   same. Never rejects.
     */
    leave() {
        return this.#of.rooms.find(this.name)?.leave() ?? Promise.resolve();
    }

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
    publish(data, options = {}) {
        try {
            return this.#of.outbox.publish(this.name, data, options);
        }
        catch (error) {
            return Promise.reject(error);
        }
    }

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
    emit(event, data = null) {
        if (event === "" || /\s/.test(event) || utf8Length(event) > EVENT_BYTES_MAX) {
            throw new TypeError(`no name of an event: "${event}"`);
        }
        if (isReserved(event))
            throw new TypeError(`"${event}" is the protocol's own`);
        if (JSON.stringify(data) === undefined)
            throw new TypeError("JSON cannot say what is emitted");
        const text = encode("emit", { to: this.name, event, data });
        const max = this.#of.exchange.limits?.messageBytes ?? Infinity;
        if (utf8Length(text) > max) {
            const message = `a message over ${max} bytes, which the server does not take`;
            throw new RefusedError("too_large", message, { event: "emit", room: this.name });
        }
        return this.#of.exchange.tell(text);
    }

    /**
     * Asks for a part of the room's history, also if it was not joined. It waits for a connection,
     * and is asked again after a lost one; at most 128 questions wait at a time, over all rooms.
     *
     * @returns Rejects with {@link RefusedError}, {@link QueueFullError} or {@link ClosedError}.
     */
    history(request) {
        const { since, limit, last } = request;
        if ((since === undefined) === (last === undefined))
            return misuse("history: since or last");
        if (limit !== undefined && !isCount(limit))
            return misuse("history: limit is no number of them");
        if (last !== undefined) {
            if (!isCount(last))
                return misuse("history: last is no number of them");
            return this.#of.histories.ask(this.name, { last });
        }
        const position = readPosition(since);
        if (position === null)
            return misuse("history: since is no position");
        const limited = limit === undefined ? {} : { limit };
        return this.#of.histories.ask(this.name, { since: position, ...limited });
    }
}

function isCount(value) {
    return Number.isSafeInteger(value) && value > 0;
}

/** Not marked as looked at: a mistake should be seen. */
function misuse(what) {
    return Promise.reject(new TypeError(what));
}

/**
 * @file Publications of a room as an async iterator.
 */

/** How many publications wait for a reader that did not say: a second of a fast room. */
const BUFFER_MAX = 1000;

/**
 * Publications from the moment it was made, in order, each once.
 *
 * It holds a bounded number of them for its reader. At the bound it takes no more: the reader gets
 * what is held and then a {@link LaggedError}, which says where to go on.
 *
 * @internal
 */
class PublicationStream {
    #bufferMax;
    #stopped;
    #buffer = [];
    #readers = [];
    #isOver = false;
    #error = null;

    /** @param stopped Is called once, when it takes no more. */
    constructor(options, stopped) {
        this.#bufferMax = positive("bufferMax", options.bufferMax ?? BUFFER_MAX);
        this.#stopped = stopped;
    }

    push(publication) {
        const reader = this.#readers.shift();
        if (reader) {
            reader.resolve({ done: false, value: publication });
        }
        else if (this.#buffer.length < this.#bufferMax) {
            this.#buffer.push(publication);
        }
        else {
            const { epoch, offset } = this.#buffer[this.#buffer.length - 1];
            this.end(new LaggedError(publication.room, { epoch, offset }, this.#bufferMax));
        }
    }

    /** Takes no more. The reader gets what is held, then the error if there is one, then the end. */
    end(error = null) {
        if (this.#isOver)
            return;
        this.#isOver = true;
        this.#error = error;
        this.#stopped(this);
        // Whoever reads has read everything that was held.
        const readers = this.#readers;
        this.#readers = [];
        for (const reader of readers)
            this.#finish(reader);
    }

    next() {
        return new Promise((resolve, reject) => {
            const publication = this.#buffer.shift();
            if (publication)
                resolve({ done: false, value: publication });
            else if (this.#isOver)
                this.#finish({ resolve, reject });
            else
                this.#readers.push({ resolve, reject });
        });
    }

    /** Takes no more and forgets what is held; `for await` calls it when it is left. */
    return() {
        this.#buffer.length = 0;
        this.end();
        this.#error = null;
        return Promise.resolve({ done: true, value: undefined });
    }

    [Symbol.asyncIterator]() {
        return this;
    }

    #finish(reader) {
        const error = this.#error;
        this.#error = null;
        if (error === null)
            reader.resolve({ done: true, value: undefined });
        else
            reader.reject(error);
    }
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

/** One room's state. @internal */
class Membership {
    name;
    #host;
    #callbacks = new Callbacks(ROOM_EVENTS);
    #streams = new Set();

    /** Runs while the server wants us to wait before we ask again. */
    #pause;
    #isWanted = false;

    /** How much is to be replayed while there is no position. */
    #last = null;

    /** Up to where the application has everything that it will get. */
    #position = null;

    /** What is missing right before the next publication. */
    #gap = null;

    /** The question that is under way; null if there is none. */
    #joinId = null;

    /** The membership on this connection; null if there is none. */
    #joined = null;
    #wasJoined = false;

    /** What `join` promised; null if nobody waits. */
    #waiting = null;
    #leaving = new Set();
    constructor(name, host) {
        this.name = name;
        this.#host = host;
        this.#pause = new Timer(host.clock);
    }

    get position() {
        return this.#position;
    }

    get isJoined() {
        return this.#joined !== null;
    }

    get isWanted() {
        return this.#isWanted;
    }

    /** Whether nobody would notice if it were forgotten. */
    get isIdle() {
        const isUsed = this.#isWanted || this.#streams.size > 0 || this.#leaving.size > 0;
        return !isUsed && this.#callbacks.isEmpty;
    }

    // ---- What the application asks ----
    on(event, callback) {
        const off = this.#callbacks.on(event, callback);
        return () => {
            off();
            this.#host.release(this);
        };
    }

    stream(options) {
        const { closed, isOver } = this.#host.exchange;
        const stream = new PublicationStream(options, () => {
            this.#streams.delete(stream);
            this.#host.release(this);
        });
        this.#streams.add(stream);
        if (closed)
            stream.end(isOver ? null : closed);
        return stream;
    }

    join(options) {
        const { closed, isOver } = this.#host.exchange;
        if (closed && isOver)
            return failed(closed);
        if (this.#joined)
            return Promise.resolve(this.#joined);
        if (!this.#isWanted) {
            this.#isWanted = true;
            this.#wasJoined = false;
            this.#position = readPosition(options.since);
            this.#last = options.last ?? null;
            this.connected();
        }
        if (closed)
            return failed(closed);
        this.#waiting ??= new Deferred();
        return this.#waiting.promise;
    }

    leave() {
        if (!this.#isWanted)
            return Promise.resolve();
        const isKnown = this.#joined !== null || this.#joinId !== null;
        this.#forget(new LeftError(this.name));
        const left = new Deferred();
        const answered = () => {
            this.#leaving.delete(left);
            left.resolve();
            this.#host.release(this);
        };
        const asked = isKnown ? this.#host.exchange.ask("leave", { room: this.name }, answered) : null;
        if (asked === null)
            left.resolve();
        else
            this.#leaving.add(left);
        this.#endStreams();
        this.#host.release(this);
        return left.promise;
    }

    // ---- What becomes of the connection ----

    /** There is a connection: joins, if that is wanted. */
    connected() {
        if (!this.#isWanted || this.#pause.isRunning)
            return;
        const since = this.#position ?? undefined;
        const last = since ? undefined : (this.#last ?? undefined);
        const id = this.#host.exchange.ask("join", { room: this.name, since, last }, (answer) => {
            this.#joinId = null;
            this.#answered(answer, since ?? null);
        });
        this.#joinId = id;
    }

    connectionLost() {
        this.#joinId = null;
        this.#joined = null;
        this.#pause.stop();
        for (const left of this.#leaving)
            left.resolve();
        this.#leaving.clear();
        this.#host.release(this);
    }

    /** The connection does not come back by itself. Nobody waits any longer. */
    closed(error) {
        this.#waiting?.reject(error);
        this.#waiting = null;
        this.#endStreams(error);
    }

    /** The connection never comes back, as the application wished. */
    closedForGood(error) {
        this.#forget(error);
        this.#endStreams();
    }

    // ---- What the server says ----
    published(fields) {
        if (!this.#joined || !this.#position)
            return;
        const publication = readPublication(fields, this.name, this.#position.epoch);
        if (publication === null) {
            this.#host.tell(new ProtocolError(`the server sent a "msg" to "${this.name}" that is none`));
            return;
        }
        const expected = this.#position.offset + 1;
        // A repeat: the application has it.
        if (publication.offset < expected)
            return;
        this.#position = at(publication);
        const isNext = publication.offset === expected;
        const gaps = isNext ? [] : [this.#gapOf("jump", expected, publication.offset - 1)];
        this.#passOn(gaps, publication);
    }

    /** The server left something out. */
    skipped(fields) {
        if (!this.#joined || !this.#position)
            return;
        const { from, to } = fields;
        if (!isOffset(from) || !isOffset(to)) {
            this.#host.tell(new ProtocolError(`the server sent a "gap" in "${this.name}" that is none`));
            return;
        }
        const expected = this.#position.offset + 1;
        if (to < expected)
            return;
        this.#position = { epoch: this.#position.epoch, offset: to };
        const gaps = [this.#gapOf("slow", Math.max(from, expected), to)];
        if (from > expected)
            gaps.unshift(this.#gapOf("jump", expected, from - 1));
        this.#passOn(gaps, null);
    }

    emitted(event, fields) {
        if (!this.#joined)
            return;
        const from = readString(fields["from"]);
        this.#callbacks.raise("event", { room: this.name, event, from, data: fields["data"] ?? null });
    }

    #answered(answer, since) {
        if (answer instanceof RefusedError) {
            this.#refused(answer);
            return;
        }
        const position = readPosition(answer.fields["position"]);
        const isReplayed = since !== null || this.#last !== null;
        const recovery = position && isReplayed ? readRecovery(answer.fields, position) : null;
        if (answer.event !== "joined" || !position || (isReplayed && !recovery)) {
            this.#fail(new ProtocolError(`the server's answer to a join of "${this.name}" is none`));
        }
        else {
            this.#begin(position, since, recovery);
        }
    }

    /** @param recovery What is said of the replay; null if there is none. */
    #begin(position, since, recovery) {
        const gap = since && recovery && missing(this.name, since, recovery);
        const joined = {
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
        if (gap && this.#joined === joined)
            this.#passOn([gap], null);
    }

    #refused(error) {
        if (error.retryAfterMs === null)
            this.#fail(error);
        else
            this.#pause.start(error.retryAfterMs, () => this.connected());
    }

    /** The server does not have us; another attempt would be no different. */
    #fail(error) {
        this.#forget(error);
        this.#endStreams(error);
        this.#host.tell(error);
        if (error instanceof RefusedError)
            this.#callbacks.raise("refused", error);
        this.#host.release(this);
    }

    #forget(error) {
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

    #endStreams(error = null) {
        for (const stream of [...this.#streams])
            stream.end(error);
    }

    // ---- What the application is told ----
    #gapOf(reason, from, to) {
        return { room: this.name, reason, epoch: this.#position?.epoch ?? "", from, to };
    }

    /** Tells of gaps, then of a publication, as long as nobody who is told of one leaves the room. */
    #passOn(gaps, publication) {
        const joined = this.#joined;
        for (const gap of gaps) {
            if (this.#joined !== joined)
                return;
            this.#gap = this.#gap === null ? gap : joinGaps(this.#gap, gap);
            this.#callbacks.raise("gap", gap);
        }
        if (publication !== null && this.#joined === joined)
            this.#deliver(publication);
    }

    #deliver(publication) {
        const told = this.#gap === null ? publication : { ...publication, gap: this.#gap };
        this.#gap = null;
        for (const stream of [...this.#streams])
            stream.push(told);
        this.#callbacks.raise("publication", told);
    }
}

function at({ epoch, offset }) {
    return { epoch, offset };
}

/** Two gaps with nothing between them, as one, with the reason of the later. */
function joinGaps(earlier, later) {
    if (earlier.epoch !== later.epoch || earlier.from === null || later.from === null) {
        return { ...later, reason: "epoch", from: null, to: null };
    }

    return { ...later, from: earlier.from };
}

const ROOM_EVENTS = ["publication", "event", "gap", "joined", "refused"];

/**
 * @file The rooms that anybody here has to do with, by name.
 *
 * A room is kept while it is wanted, while somebody listens to it or reads it, and while an answer
 * about it is awaited; so there are as many as the application uses, whatever the server sends.
 */

/** The rooms of one connection. */
class Rooms {
    exchange;
    clock;
    tell;
    #memberships = new Map();
    constructor(exchange, clock, tell) {
        this.exchange = exchange;
        this.clock = clock;
        this.tell = tell;
    }

    /** The names of those that are wanted, in the order in which they came to be of use. */
    get wanted() {
        return [...this.#memberships.values()].filter((room) => room.isWanted).map(({ name }) => name);
    }

    /** The room, which is made if there is none. */
    use(name) {
        let membership = this.#memberships.get(name);
        if (!membership) {
            membership = new Membership(name, this);
            this.#memberships.set(name, membership);
        }
        return membership;
    }

    /** The room, if there is anything to know of it. */
    find(name) {
        return this.#memberships.get(name) ?? null;
    }

    release(membership) {
        const isKept = this.#memberships.get(membership.name) === membership;
        if (isKept && membership.isIdle)
            this.#memberships.delete(membership.name);
    }

    connected() {
        for (const membership of [...this.#memberships.values()])
            membership.connected();
    }

    connectionLost() {
        for (const membership of [...this.#memberships.values()])
            membership.connectionLost();
    }

    closed(error) {
        for (const membership of [...this.#memberships.values()])
            membership.closed(error);
    }

    closedForGood(error) {
        for (const membership of [...this.#memberships.values()])
            membership.closedForGood(error);
        this.#memberships.clear();
    }

    /** An event of a room came from the server. */
    handle(event, fields) {
        const name = fields["room"];
        if (typeof name !== "string") {
            this.tell(new ProtocolError(`the server sent a "${event}" without a room`));
            return;
        }
        // Of a room that was left a moment ago, something may still be under way.
        const membership = this.#memberships.get(name);
        if (event === "msg")
            membership?.published(fields);
        else if (event === "gap")
            membership?.skipped(fields);
        else
            membership?.emitted(event, fields);
    }
}

/**
 * @file A connection that comes back: its state, its attempts, and who is told of what happens.
 *
 * It owns one {@link Link} at a time and what outlives it: the rooms, the publications that are not
 * acknowledged, the questions that are not answered.
 */

/**
 * Opens a connection to a Throng server.
 *
 * It begins at once. Set callbacks in the same turn and none is missed.
 *
 * @param url Where the server's WebSocket is: absolute (`wss://host/ws`), or relative to the page.
 * @throws {TypeError} If that is no address, or there is no WebSocket here.
 * @throws {RangeError} If an option cannot be used.
 */
function connect(url, options = {}) {
    return new Connection(resolveUrl(url), settle(options));
}

/** A connection that comes back, from {@link connect}. */
class Connection {
    /** The address, absolute. */
    url;
    #settings;
    #callbacks = new Callbacks(["state", "error", "event"]);
    #exchange = new Exchange();
    #rooms;
    #outbox;
    #histories;
    #backoff;
    #retry;
    #owner;
    #handleOnline = () => this.#wakeUp();
    #handleVisibility = () => {
        if (this.#settings.page.document?.visibilityState === "visible")
            this.#wakeUp();
    };

    #link = null;
    #status = { state: "connecting", retryAt: null, code: null, reason: "" };
    #openedAt = null;

    /** Until when the server wants us to stay away. */
    #notBefore = 0;

    /** @internal */
    constructor(url, settings) {
        const { clock, random } = settings;
        const tell = (error) => this.#callbacks.raise("error", error);
        this.url = url;
        this.#settings = settings;
        this.#rooms = new Rooms(this.#exchange, clock, tell);
        this.#outbox = new Outbox(settings, this.#exchange, tell);
        this.#histories = new Histories(this.#exchange, clock, tell);
        this.#backoff = new Backoff(random);
        this.#retry = new Timer(clock);
        this.#owner = {
            opened: () => this.#handleOpen(),
            message: (event, fields) => this.#handleMessage(event, fields),
            misheard: tell,
            lost: (end) => this.#handleEnd(end),
        };
        settings.page.window?.addEventListener("online", this.#handleOnline);
        settings.page.document?.addEventListener("visibilitychange", this.#handleVisibility);
        this.#attempt();
    }

    /** What it is doing now. */
    get state() {
        return this.#status.state;
    }

    /** What it is doing now, and why. */
    get status() {
        return this.#status;
    }

    /** The server's greeting; null unless the state is `open`. */
    get hello() {
        return this.#link?.hello ?? null;
    }

    /** The names of the rooms that are wanted: joined, or to be joined when that is possible. */
    get rooms() {
        return this.#rooms.wanted;
    }

    /** How many publications are not acknowledged yet. */
    get unacknowledged() {
        return this.#outbox.count;
    }

    /**
     * A room. It costs nothing until it is used.
     *
     * @throws {TypeError} If the name is empty.
     */
    room(name) {
        if (typeof name !== "string" || name === "")
            throw new TypeError("a room needs a name");
        return new Room(name, {
            rooms: this.#rooms,
            outbox: this.#outbox,
            histories: this.#histories,
            exchange: this.#exchange,
        });
    }

    /**
     * Calls `callback` on what happens to the connection: see {@link ConnectionEvents}.
     *
     * Callbacks are called in the order in which they were set. One that throws is reported as an
     * uncaught error, and neither the others nor the connection notice.
     *
     * @returns What takes the callback away again.
     */
    on(event, callback) {
        return this.#callbacks.on(event, callback);
    }

    /**
     * Connects at once, instead of waiting, or of staying closed as the server wished. Rooms that are
     * wanted are joined again. Does nothing in the other states, nor after {@link Connection.close}.
     */
    reconnect() {
        if (this.#exchange.isOver)
            return;
        if (this.state === "waiting" || this.state === "closed")
            this.#attempt();
    }

    /**
     * Closes for good. Everything that waits is settled: promises reject, iterators end. Whether
     * publications that were under way have arrived is unknown, and their promises say so.
     */
    close() {
        if (this.#exchange.isOver)
            return;
        const { window, document } = this.#settings.page;
        window?.removeEventListener("online", this.#handleOnline);
        document?.removeEventListener("visibilitychange", this.#handleVisibility);
        this.#retry.stop();
        const link = this.#link;
        this.#forgetLink();
        link?.end();
        const error = new ClosedError(1000, "");
        this.#exchange.closed = error;
        this.#exchange.isOver = true;
        this.#become({ state: "closed", retryAt: null, code: 1000, reason: "" }, () => {
            this.#rooms.closedForGood(error);
            this.#outbox.close(error, false);
            this.#histories.close(error);
        });
    }

    #attempt() {
        this.#retry.stop();
        this.#exchange.closed = null;
        const { code, reason } = this.#status;
        this.#become({ state: "connecting", retryAt: null, code, reason }, () => {
            try {
                this.#link = new Link(this.url, this.#settings, this.#owner);
            }
            catch (cause) {
                this.#callbacks.raise("error", new ProtocolError("no connection can be tried here", cause));
                if (!this.#exchange.isOver)
                    this.#handleEnd({ code: 1006, reason: "", afterMs: 0 });
            }
        });
    }

    #handleOpen() {
        this.#openedAt = this.#settings.clock.now();
        this.#exchange.use(this.#link);
        this.#become({ state: "open", retryAt: null, code: null, reason: "" }, () => {
            // Rooms first: who publishes to a room it is in wants to see that.
            this.#rooms.connected();
            this.#outbox.connected();
            this.#histories.connected();
        });
    }

    #handleMessage(event, fields) {
        switch (event) {
            case "ack":
            case "history":
            case "joined":
            case "left":
                this.#exchange.answer(fields["id"], { event, fields });
                break;
            case "error":
                this.#handleRefusal(fields);
                break;
            case "gap":
            case "msg":
                this.#rooms.handle(event, fields);
                break;
            default:
                // What we do not know may be of a later version; it is no concern of ours.
                if (isReserved(event))
                    break;
                if ("room" in fields)
                    this.#rooms.handle(event, fields);
                else if ("data" in fields)
                    this.#callbacks.raise("event", { event, data: fields["data"] });
        }
    }

    #handleRefusal(fields) {
        const about = {
            event: readString(fields["event"]),
            room: readString(fields["room"]),
            retryAfterMs: readRetry(fields["retry_after_ms"]),
        };
        const message = readString(fields["message"]) ?? "";
        const error = new RefusedError(readString(fields["code"]) ?? "", message, about);
        if (!this.#exchange.answer(fields["id"], error))
            this.#callbacks.raise("error", error);
    }

    #handleEnd(end) {
        const { clock } = this.#settings;
        const lastedMs = this.#openedAt === null ? 0 : clock.now() - this.#openedAt;
        this.#forgetLink();
        const { code, reason } = end;
        if (!comesBack(code)) {
            this.#stop(new ClosedError(code, reason));
            return;
        }
        const delayMs = end.afterMs + this.#backoff.next(lastedMs);
        this.#notBefore = clock.now() + end.afterMs;
        this.#wait(delayMs, code, reason);
    }

    #forgetLink() {
        this.#link = null;
        this.#openedAt = null;
        this.#exchange.use(null);
        this.#rooms.connectionLost();
        this.#outbox.connectionLost();
    }

    #wait(delayMs, code, reason) {
        this.#retry.start(delayMs, () => this.#attempt());
        const retryAt = this.#settings.clock.now() + delayMs;
        this.#become({ state: "waiting", retryAt, code, reason });
    }

    /** The server does not want us back. What is wanted stays wanted, should a person try again. */
    #stop(error) {
        const { code, reason } = error;
        this.#exchange.closed = error;
        this.#become({ state: "closed", retryAt: null, code, reason }, () => {
            this.#rooms.closed(error);
            this.#outbox.close(error, true);
            this.#histories.close(error);
        });
    }

    /**
     * The network or the person is back: no reason to sit out the rest of the pause, but for the part
     * that the server asked for. A connection that seems open may have died meanwhile.
     */
    #wakeUp() {
        this.#link?.probe();
        const { state, retryAt, code, reason } = this.#status;
        if (state !== "waiting")
            return;
        const remainingMs = this.#notBefore - this.#settings.clock.now();
        if (remainingMs <= 0)
            this.#attempt();
        else if (retryAt !== this.#notBefore)
            this.#wait(remainingMs, code, reason);
    }

    /**
     * @param settle What belongs to the change. It may call callbacks that change the state again.
     */
    #become(status, settle) {
        this.#status = status;
        settle?.();
        if (this.#status === status)
            this.#callbacks.raise("state", status);
    }
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
