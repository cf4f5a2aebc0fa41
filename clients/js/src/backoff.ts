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
export class Backoff {
  readonly #random: () => number;
  #failures = 0;

  constructor(random: () => number) {
    this.#random = random;
  }

  /**
   * How long to wait now, in milliseconds.
   *
   * @param lastedMs How long the connection that was lost had been open; 0 if it never was.
   */
  next(lastedMs: number): number {
    if (lastedMs >= STABLE_MS) this.#failures = 0;
    const ceiling = Math.min(CEILING_MAX_MS, CEILING_MIN_MS * 2 ** this.#failures);
    this.#failures += 1;
    return this.#random() * ceiling;
  }
}

/** What a close frame says, beside its code. */
export interface CloseReason {
  /** In words of the server. */
  readonly reason: string;
  /** The pause that it asks for, in milliseconds. */
  readonly afterMs: number;
}

/** Whether a client should come back after this close code. */
export function comesBack(code: number): boolean {
  return !FINAL_CODES.has(code) && !(code >= 4000 && code <= 4099);
}

/**
 * Reads `{"reason":"drain","after_ms":1730}`; any other text is the reason itself. Codes from 4100
 * to 4199 may ask for a pause, and no others.
 */
export function readCloseReason(code: number, text: string): CloseReason {
  let parsed: { reason?: unknown; after_ms?: unknown } | null = null;
  try {
    parsed = Object(JSON.parse(text));
  } catch {
    // Words for people.
  }
  if (parsed === null || typeof parsed.reason !== "string") return { reason: text, afterMs: 0 };
  const asked = code >= 4100 && code <= 4199 ? parsed.after_ms : 0;
  return { reason: parsed.reason, afterMs: readPause(asked) };
}

/** A pause that the server asks for before we come back, made sane: 0 if it is none. */
export function readPause(value: unknown): number {
  return typeof value === "number" && value > 0 ? Math.min(value, PAUSE_MAX_MS) : 0;
}

/** A pause that the server asks for before the same is asked again; null if it is none. */
export function readRetry(value: unknown): number | null {
  return typeof value === "number" ? Math.max(RETRY_MIN_MS, readPause(value)) : null;
}
