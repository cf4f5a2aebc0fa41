/* Greets the server, pokes it, and says what it answers. */

const conn = new golem.Connection(WEBSOCKET, true);

conn.on("answer", (data) => log(`Answer: ${data.msg}`));

conn.on("open", () => {
  conn.emit("hello", { to: "Server", from: "Client" });
  conn.emit("poke");
});
