/**
 * @file A promise that somebody else settles.
 */

/** Settling it a second time does nothing. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
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
export function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** A promise that has failed already. */
export function failed(error: unknown): Promise<never> {
  return handled(Promise.reject(error));
}
