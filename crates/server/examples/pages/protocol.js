/* The example `simple` in BSON: a document `{ e: event, d: data }` is one message. */

const conn = new golem.Connection(WEBSOCKET, true);

conn.setProtocol({
  unpack(message) {
    const { e, d } = bson.deserialize(message);
    return [e, d];
  },
  // All has been read by then.
  unmarshal(data) {
    return data;
  },
  marshalAndPack(name, data) {
    return bson.serialize({ e: name, d: data });
  },
});
conn.enableBinary();

conn.on("answer", (data) => log(`Answer: ${data.msg}`));

conn.on("open", () => {
  conn.emit("hello", { to: "Server", from: "Client" });
  conn.emit("poke");
});
