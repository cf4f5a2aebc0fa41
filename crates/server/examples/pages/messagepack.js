/* Watches the readings, and sends one. What others send as MessagePack comes here as JSON. */

const conn = new golem.Connection(WEBSOCKET, true);

conn.on("reading", ({ sensor, values }) => log(`Reading: ${sensor} ${values.join(", ")}`));

conn.on("open", () => {
  conn.emit("watch");
  conn.emit("reading", { sensor: "page", values: [1, 2.5] });
});
