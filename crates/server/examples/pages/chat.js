/* Joins and leaves rooms, sends to them, and shows what is said in those it is in. */

const conn = new golem.Connection(WEBSOCKET, true);

/* Emits what is in a form's fields when it is submitted. */
function emitOnSubmit(form, event) {
  const element = document.getElementById(form);
  element.addEventListener("submit", (submit) => {
    submit.preventDefault();
    conn.emit(event, Object.fromEntries(new FormData(element)));
  });
}

emitOnSubmit("join-form", "join");
emitOnSubmit("leave-form", "leave");
emitOnSubmit("chat-form", "msg");

conn.on("msg", (msg) => {
  const line = document.createElement("div");
  line.textContent = msg;
  document.getElementById("chat").append(line);
});
conn.on("error", (error) => log(`Refused: ${error.message}`));
conn.on("open", () => log("Connected."));
conn.on("close", () => log("Disconnected."));
