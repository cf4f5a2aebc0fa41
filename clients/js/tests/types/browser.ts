/**
 * @file What a page's author writes: it has to compile, with the types of browsers and no others.
 */

import { connect } from "@throng/client";
import type {
  Ack,
  Connection,
  Emission,
  Gap,
  History,
  Joined,
  Position,
  Publication,
  Room,
  Status,
} from "@throng/client";

const connection: Connection = connect("ws", { WebSocket, publishesMax: 10, page: null });
connection.on("state", (status: Status) => status.retryAt ?? status.code);

const room: Room = connection.room("tea");
const off: () => void = room.on("publication", (publication: Publication) => publication.data);
room.on("event", (emission: Emission) => emission.event);
room.on("gap", ({ reason, from, to }: Gap) => [reason === "evicted", from, to]);
room.on("joined", (joined: Joined) => joined.again);
off();

export async function all(publication: Publication): Promise<Position | null> {
  await room.join();
  await room.join({ since: publication });
  const ack: Ack = await room.publish({ any: "JSON" }, { signal: AbortSignal.timeout(1000) });
  const since = ack.position ?? publication;
  const history: History = await room.history({ since, limit: 10 });
  for (const { offset, gap } of history.publications) console.log(offset + (gap?.from ?? 0));
  const taken: boolean = room.emit("typing");
  if (!taken) connection.reconnect();
  return room.position;
}

// @ts-expect-error There is no such event.
room.on("msg", () => {});
// @ts-expect-error Not both.
room.history({ since: { epoch: "e", offset: 1 }, last: 1 } satisfies { last: number });
// @ts-expect-error One of them.
room.history({});
// @ts-expect-error It is for reading.
connection.state = "open";
// @ts-expect-error Made by `connect`, and not otherwise.
new Room("tea");
