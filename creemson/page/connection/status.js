/** Shows the state of the connection, with a button to reconnect at once. */

import { byId, showError } from "../dom.js";

const ASK_EVERY = 2_000; // ms
const SILENCE = 2_500; // ms after which a server that does not answer is reported

const TEXTS = {
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Connection lost; reconnecting",
  closed: "Not connected",
};

/**
 * Show the state of a client's connection.
 *
 * @param {import("../creemson.js").Client} client
 * @param {function(): void} onOpen called each time the connection opens
 */
export function showConnection(client, onOpen) {
  let timer = 0;
  let isLost = false;
  const problem = byId("connection-error");

  function show({ state, retryIn, error }) {
    clearInterval(timer);
    byId("connection").dataset.state = state;
    byId("reconnect").hidden = state !== "waiting";
    // The countdown is outside the status element, so that screen readers do not read every second.
    byId("countdown").textContent = "";
    // Attempts to connect again are no news: that the connection is lost is said once.
    isLost = state === "waiting" || (isLost && state === "connecting");
    say(TEXTS[isLost ? "waiting" : state]);
    if (state === "waiting") timer = countDown(byId("countdown"), retryIn);
    if (state === "closed" && error) showError(problem, error);
    if (state === "open") {
      showError(problem, null);
      onOpen();
    }
  }

  client.addEventListener("state", ({ detail }) => show(detail));
  watch(client);
  client.addEventListener("error", ({ detail }) => showError(problem, detail));
  byId("reconnect").onclick = () => client.reconnectNow();
  show(client.state);
}

/** Say within five seconds that the server is silent; the client itself gives it more time before it connects again. */
function watch(client) {
  let isAsking = false;
  setInterval(async () => {
    if (isAsking || client.state.state !== "open" || document.visibilityState !== "visible") return;
    isAsking = true;
    const late = setTimeout(() => {
      if (client.state.state === "open") say("The server does not answer; waiting for it");
    }, SILENCE);
    await client.ping().catch(() => {});
    clearTimeout(late);
    if (client.state.state === "open") say(TEXTS.open);
    isAsking = false;
  }, ASK_EVERY);
}

/** Change the text only if it is another one: a screen reader reads it whenever it is set. */
function say(text) {
  const place = byId("connection-text");
  if (place.textContent !== text) place.textContent = text;
}

/** Show the remaining seconds; returns the interval, for `clearInterval`. */
function countDown(place, milliseconds) {
  const deadline = performance.now() + milliseconds;
  const tick = () => {
    place.textContent = `in ${Math.max(0, Math.ceil((deadline - performance.now()) / 1000))} s`;
  };
  tick();
  return setInterval(tick, 250);
}
