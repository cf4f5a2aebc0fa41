// A chat over golem's wire on Bun's own publish and subscribe.

const reply = (ws, reason) => ws.send(`error ${JSON.stringify({ reason })}`);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 8080),
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response("this address speaks WebSocket\n", { status: 426 });
  },
  websocket: {
    message(ws, text) {
      try {
        const space = text.indexOf(" ");
        const data = JSON.parse(text.slice(space + 1));
        switch (text.slice(0, space)) {
          case "join": return ws.subscribe(data.name);
          case "leave": return ws.unsubscribe(data.name);
          case "msg": return server.publish(data.to, `msg ${JSON.stringify(data.msg)}`);
          default: reply(ws, "unknown event");
        }
      } catch (error) {
        reply(ws, String(error));
      }
    },
  },
});

console.log(`listening on http://127.0.0.1:${server.port}/`);
