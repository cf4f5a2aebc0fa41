/*
 * A client of golem's wire with the interface of golem.js, for the pages of the examples. Whoever has golem's
 * own can use that.
 *
 *   var conn = new golem.Connection("ws://127.0.0.1:8080/ws", true);
 *   conn.on("open", function () { conn.emit("hello", { to: "Server" }); });
 *   conn.on("answer", function (data) { console.log(data.msg); });
 *
 * It does nothing about a connection that is lost. The client in clients/js comes back and misses nothing.
 */
(function (global) {
  "use strict";

  /* `event json`. What has no data is sent as `event undefined`, as golem.js does. */
  const json = {
    unpack(message) {
      const space = message.indexOf(" ");
      return space < 0 ? [message, ""] : [message.slice(0, space), message.slice(space + 1)];
    },
    unmarshal(text) {
      return text === "" ? undefined : JSON.parse(text);
    },
    marshalAndPack(name, data) {
      return `${name} ${JSON.stringify(data)}`;
    },
  };

  class Connection {
    #socket;
    #protocol = json;
    #callbacks = new Map();
    #debug;

    /*
     * Connects to `ws://host/path`; without a scheme it is that of the page. With `debug` it says on the
     * console what happens.
     */
    constructor(address, debug) {
      this.#debug = Boolean(debug);
      this.#socket = new WebSocket(address.includes("://") ? address : scheme() + address);
      this.#socket.onopen = (event) => this.#happens("open", event, "connected");
      this.#socket.onclose = (event) => this.#happens("close", event, "disconnected");
      this.#socket.onmessage = ({ data }) => this.#receive(data);
    }

    /* Calls back for an event of this name, and for no other callback than the last. */
    on(name, callback) {
      this.#callbacks.set(name, callback);
    }

    /* Sends an event, once the connection is open. */
    emit(name, data) {
      this.#socket.send(this.#protocol.marshalAndPack(name, data));
    }

    /*
     * Speaks another protocol: `unpack(message)` gives `[name, part]`, `unmarshal(part)` the data, and
     * `marshalAndPack(name, data)` a message.
     */
    setProtocol(protocol) {
      this.#protocol = protocol;
    }

    /* Has binary messages given to the protocol as array buffers, which can be read at once. */
    enableBinary() {
      this.#socket.binaryType = "arraybuffer";
    }

    #receive(message) {
      const [name, part] = this.#protocol.unpack(message);
      this.#log(`received ${name}`);
      const callback = this.#callbacks.get(name);
      if (callback) callback(this.#protocol.unmarshal(part));
    }

    #happens(name, event, words) {
      this.#log(words);
      this.#callbacks.get(name)?.(event);
    }

    #log(words) {
      if (this.#debug) console.log(`golem: ${words}`);
    }
  }

  function scheme() {
    return global.location?.protocol === "https:" ? "wss://" : "ws://";
  }

  global.golem = { Connection };
})(globalThis);
