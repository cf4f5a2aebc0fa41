/* Sends an event for each way in which the server takes data, and says what it answers. */

const conn = new golem.Connection(WEBSOCKET, true);

conn.on("json", (data) => log(`JSON: ${data.msg}`));
conn.on("raw", (data) => log(`Raw: ${data}`));
conn.on("custom", (data) => log(`Custom: ${data}`));

conn.on("open", () => {
  conn.emit("json", { msg: "Hi json!" });
  conn.emit("raw", "Hi raw!");
  conn.emit("custom", "Hi string!");
  conn.emit("nodata");
});
