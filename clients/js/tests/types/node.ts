/**
 * @file What the author of a program for Node writes: it has to compile without the types of
 * browsers.
 */

import { ClosedError, LaggedError, RefusedError, connect } from "@throng/client";
import type { Clock, ConnectOptions, Publication, ThrongError } from "@throng/client";
import WebSocket from "ws";

const clock: Clock = {
  now: Date.now,
  setTimeout,
  clearTimeout: (timer) => clearTimeout(timer as number),
};
const options: ConnectOptions = { WebSocket, clock, random: Math.random };
const connection = connect(new URL("ws://127.0.0.1:8080/ws"), options);

export async function read(): Promise<Publication | undefined> {
  const room = connection.room("tea");
  const publications = room.publications({ bufferMax: 10 });
  await room.join({ last: 10 });
  try {
    for await (const publication of publications) return publication;
  } catch (error) {
    if (error instanceof LaggedError) await room.history({ since: error.position });
    else if (error instanceof RefusedError || error instanceof ClosedError) console.log(error.code);
    else throw error;
  }
  return undefined;
}

connection.on("error", (error: ThrongError) => console.error(error.message));
// @ts-expect-error A server is no client.
connect("ws://127.0.0.1", { WebSocket: WebSocket.Server });
