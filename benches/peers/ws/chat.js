// A chat over golem's wire on Node and the `ws` package: a set of sockets for each room.

const { WebSocketServer } = require("ws");

const rooms = new Map();
const reply = (socket, reason) => socket.send(`error ${JSON.stringify({ reason })}`);

function join(socket, name) {
  if (!rooms.has(name)) rooms.set(name, new Set());
  rooms.get(name).add(socket);
  socket.rooms.add(name);
}

function leave(socket, name) {
  rooms.get(name)?.delete(socket);
  if (rooms.get(name)?.size === 0) rooms.delete(name);
  socket.rooms.delete(name);
}

function publish(name, msg) {
  const text = `msg ${JSON.stringify(msg)}`;
  for (const member of rooms.get(name) ?? []) member.send(text);
}

function handle(socket, text) {
  try {
    const space = text.indexOf(" ");
    const data = JSON.parse(text.slice(space + 1));
    switch (text.slice(0, space)) {
      case "join": return join(socket, data.name);
      case "leave": return leave(socket, data.name);
      case "msg": return publish(data.to, data.msg);
      default: reply(socket, "unknown event");
    }
  } catch (error) {
    reply(socket, String(error));
  }
}

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) });
server.on("listening", () => console.log(`listening on http://127.0.0.1:${server.address().port}/`));
server.on("connection", (socket) => {
  socket.rooms = new Set();
  socket.on("message", (data) => handle(socket, data.toString()));
  socket.on("close", () => socket.rooms.forEach((name) => leave(socket, name)));
  socket.on("error", () => socket.terminate());
});
