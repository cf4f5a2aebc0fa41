// A chat on Socket.IO's rooms, over WebSocket alone. Its clients speak Socket.IO's own protocol, so
// the events carry golem's data and not golem's wire.

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const server = createServer();
const io = new Server(server, { transports: ["websocket"], serveClient: false });

/** Tells a client what was wrong with its event, where Socket.IO itself would not notice. */
function checked(socket, handle) {
  return (data) => {
    try {
      handle(data);
    } catch (error) {
      socket.emit("error", { reason: String(error) });
    }
  };
}

io.on("connection", (socket) => {
  socket.on("join", (name) => socket.join(name));
  socket.on("leave", (name) => socket.leave(name));
  socket.on("msg", checked(socket, ({ to, msg }) => io.to(to).emit("msg", msg)));
});

server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/`);
});
