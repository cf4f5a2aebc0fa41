/* A button for each event, and a line for each that comes back. */

const conn = new golem.Connection(WEBSOCKET + location.search, true);

/* What an event is sent with. */
const room = () => ({ name: document.getElementById("room").value });
const text = () => document.getElementById("text").value;
const nothing = () => undefined;

const events = {
  join: room,
  who: room,
  leave_all: nothing,
  bye: nothing,
  destroy: room,
  stop: nothing,
  announce: text,
};
for (const [event, data] of Object.entries(events)) {
  document.getElementById(event).addEventListener("click", () => conn.emit(event, data()));
}

conn.on("came", (name) => log(`${name} has come.`));
conn.on("went", (name) => log(`${name} has gone.`));
conn.on("who", (names) => log(`There: ${names.join(", ") || "nobody"}.`));
conn.on("announcement", (words) => log(`Announcement: ${words}`));
conn.on("error", (error) => log(`Refused: ${error.message}`));
conn.on("open", () => log("Connected."));
conn.on("close", () => log("Disconnected."));
