/**
 * @file Throng's JavaScript client, put to the test: does what the run says, and tells it what the
 * application was given. The same in Node and in a browser.
 *
 * Orders and tells are plain objects; scripts.rs has the other end.
 */

/** Clients of one process or page. */
export class Subjects {
  #connect;
  #tell;
  #options = {};
  #connections = new Map();

  /**
   * @param connect `connect` of the client library.
   * @param {(tell: object) => void} tell Tells the run something.
   */
  constructor(connect, tell) {
    this.#connect = connect;
    this.#tell = tell;
  }

  /** Does what the run says: see the methods. */
  handle({ order, ...details }) {
    this[order](details);
  }

  /**
   * What holds for all clients: how much faster than real time they live, and what a publication has
   * beside its key.
   */
  prepare({ speed, padBytes }) {
    this.#options = { clock: fastClock(speed), pad: "x".repeat(padBytes) };
  }

  /** Begins one client, and joins its rooms. */
  begin({ client, url, rooms }) {
    const connection = this.#connect(url, {
      clock: this.#options.clock,
      keyPrefix: `subject${client}`,
      // The server remembers keys for longer than a run lasts, and the run bounds what waits.
      publishTimeoutMs: 2 ** 31 - 1,
      publishBytesMax: 2 ** 31 - 1,
    });
    this.#connections.set(client, connection);
    let before = connection.state;
    connection.on("state", ({ state, code }) => {
      // It is told of a new pause in the same state, too.
      if (state === before) return;
      const wasOpen = before === "open";
      before = state;
      if (state === "open") this.#tell({ tell: "open", client });
      else if (state === "waiting") this.#tell({ tell: "lost", client, code, was_open: wasOpen });
      else if (state === "closed") this.#complain(client, `closed with ${code}`);
    });
    connection.on("error", (error) => this.#complain(client, String(error)));
    for (const [number, name] of rooms) this.#enter(client, number, connection.room(name));
  }

  /** Publishes with this key. */
  publish({ client, room, name, key }) {
    const data = { key, room, pad: this.#options.pad };
    this.#connections
      .get(client)
      .room(name)
      .publish(data, { key })
      .then(
        ({ position, duplicate }) =>
          this.#tell({ tell: "acknowledged", client, room, key, position, duplicate }),
        // What failed is an `error` of the connection too, which says so in words.
        () => this.#tell({ tell: "refused", client, key }),
      );
  }

  #enter(client, number, room) {
    const about = { client, room: number };
    room.on("joined", ({ position, recovered }) => {
      const reached = room.position.offset;
      this.#tell({ tell: "joined", ...about, position, recovered, reached });
    });
    room.on("publication", ({ epoch, offset, data }) => {
      const { key } = data;
      this.#tell({ tell: "publication", ...about, position: { epoch, offset }, key });
    });
    room.on("gap", ({ reason, epoch, from, to }) => {
      if (reason === "jump") this.#complain(client, `${room.name}: ${from} to ${to} were left out`);
      else if (from === null) this.#tell({ tell: "missing_unknown", ...about });
      else this.#tell({ tell: "missing", ...about, epoch, from, to });
    });
    // Its promise is of no use here: who is refused is told so by the connection.
    room.join().catch(() => {});
  }

  #complain(client, text) {
    this.#tell({ tell: "complaint", client, text });
  }
}

/** A clock by which everything that waits comes sooner. */
function fastClock(speed) {
  return {
    now: () => Date.now() * speed,
    setTimeout: (callback, delayMs) => setTimeout(callback, delayMs / speed),
    clearTimeout: (timer) => clearTimeout(timer),
  };
}
