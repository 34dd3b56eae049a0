/** How the connection is, in words, and a way to hurry it. */

import { byId, showError } from "./dom.js";

/**
 * Show the state of a client's connection.
 *
 * @param {import("./creemson.js").Client} client
 * @param {function(): void} onOpen is called each time that it is there again
 */
export function showConnection(client, onOpen) {
  let ticking = 0;
  const problem = byId("connection-error");

  function show({ state, retryIn, error }) {
    clearInterval(ticking);
    byId("connection").dataset.state = state;
    byId("reconnect").hidden = state !== "waiting";
    // The seconds stand outside of what is read aloud each time that it changes.
    byId("countdown").textContent = "";
    byId("connection-text").textContent = words[state];
    if (state === "waiting") ticking = countDown(byId("countdown"), retryIn);
    if (state === "closed" && error) showError(problem, error);
    if (state === "open") {
      showError(problem, null);
      onOpen();
    }
  }

  client.addEventListener("state", ({ detail }) => show(detail));
  client.addEventListener("error", ({ detail }) => showError(problem, detail));
  byId("reconnect").onclick = () => client.reconnectNow();
  show(client.state);
}

const words = {
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Connection lost; trying again",
  closed: "Not connected",
};

/** Write the seconds that are left; returns the interval, for `clearInterval`. */
function countDown(place, milliseconds) {
  const until = performance.now() + milliseconds;
  const tick = () => {
    place.textContent = `in ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s`;
  };
  tick();
  return setInterval(tick, 250);
}
