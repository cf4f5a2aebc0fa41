/* What the pages of the examples say: on the console, as golem's, and in the page. */

/* Where this server's WebSocket is. */
const WEBSOCKET = `${location.host}/ws`;

/* Says a line. */
function log(line) {
  console.log(line);
  const item = document.createElement("li");
  item.textContent = line;
  document.getElementById("log").append(item);
}
