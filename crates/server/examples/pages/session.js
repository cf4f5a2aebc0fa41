/* Says whether it may connect. */

const conn = new golem.Connection(WEBSOCKET, true);

conn.on("open", () => log("Connected."));
conn.on("close", () => log("Disconnected."));
