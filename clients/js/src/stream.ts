/**
 * @file Publications of a room as an async iterator.
 */

import { LaggedError } from "./errors.js";
import { positive } from "./options.js";
import type { Publication } from "./publication.js";

/** What {@link Room.publications} may be told. */
export interface PublicationsOptions {
  /** The most publications that wait to be read (default 1000). */
  bufferMax?: number;
}

/** How many publications wait for a reader that did not say: a second of a fast room. */
const BUFFER_MAX = 1000;

/** Waits for a publication. */
interface Reader {
  resolve(result: IteratorResult<Publication, undefined>): void;
  reject(error: unknown): void;
}

/**
 * Publications from the moment it was made, in order, each once.
 *
 * It holds a bounded number of them for its reader. At the bound it takes no more: the reader gets
 * what is held and then a {@link LaggedError}, which says where to go on.
 *
 * @internal
 */
export class PublicationStream implements AsyncIterableIterator<Publication> {
  readonly #bufferMax: number;
  readonly #stopped: (stream: PublicationStream) => void;
  readonly #buffer: Publication[] = [];
  #readers: Reader[] = [];
  #isOver = false;
  #error: unknown = null;

  /** @param stopped Is called once, when it takes no more. */
  constructor(options: PublicationsOptions, stopped: (stream: PublicationStream) => void) {
    this.#bufferMax = positive("bufferMax", options.bufferMax ?? BUFFER_MAX);
    this.#stopped = stopped;
  }

  push(publication: Publication): void {
    const reader = this.#readers.shift();
    if (reader) {
      reader.resolve({ done: false, value: publication });
    } else if (this.#buffer.length < this.#bufferMax) {
      this.#buffer.push(publication);
    } else {
      const { epoch, offset } = this.#buffer[this.#buffer.length - 1]!;
      this.end(new LaggedError(publication.room, { epoch, offset }, this.#bufferMax));
    }
  }

  /** Takes no more. The reader gets what is held, then the error if there is one, then the end. */
  end(error: unknown = null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error;
    this.#stopped(this);
    // Whoever reads has read everything that was held.
    const readers = this.#readers;
    this.#readers = [];
    for (const reader of readers) this.#finish(reader);
  }

  next(): Promise<IteratorResult<Publication, undefined>> {
    return new Promise((resolve, reject) => {
      const publication = this.#buffer.shift();
      if (publication) resolve({ done: false, value: publication });
      else if (this.#isOver) this.#finish({ resolve, reject });
      else this.#readers.push({ resolve, reject });
    });
  }

  /** Takes no more and forgets what is held; `for await` calls it when it is left. */
  return(): Promise<IteratorResult<Publication, undefined>> {
    this.#buffer.length = 0;
    this.end();
    this.#error = null;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(reader: Reader): void {
    const error = this.#error;
    this.#error = null;
    if (error === null) reader.resolve({ done: true, value: undefined });
    else reader.reject(error);
  }
}
