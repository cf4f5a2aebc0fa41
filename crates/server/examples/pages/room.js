/* Joins the room, greets it, and says what is said there. */

const conn = new golem.Connection(WEBSOCKET, true);

conn.on("msg", (data) => log(data.msg));

conn.on("open", () => {
  conn.emit("join");
  conn.emit("msg", { msg: "Hi lobby!" });
});
