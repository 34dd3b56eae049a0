/** Signs in with a token where the server requires one. It is stored until the tab is closed, and other open tabs get it. */

import { byId } from "../dom.js";
import { listen, tell } from "./tabs.js";

const KEY = "creemson.token";

/** @returns {string|null} the token of this tab */
export function storedToken() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is disabled: the page asks after each reload
  }
}

function use(token) {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
  location.reload();
}

/**
 * Ask for a token when the server refuses the connection without one: first the other tabs, then the person.
 *
 * @param {import("../creemson.js").Client} client
 */
export function askForToken(client) {
  const isOpen = () => client.state.state === "open";
  byId("sign-in").onsubmit = (event) => {
    event.preventDefault();
    const token = byId("token").value.trim();
    tell("token", token);
    use(token);
  };
  byId("sign-out").onclick = () => {
    tell("out");
    use(null);
  };
  listen({
    "token?": () => storedToken() && isOpen() && tell("token", storedToken()),
    token: (token) => !isOpen() && token !== storedToken() && use(token),
    out: () => storedToken() && use(null),
  });
  client.addEventListener("state", ({ detail }) => {
    byId("sign-out").hidden = !(storedToken() && detail.state === "open");
    if (detail.state !== "closed" || detail.error?.reason !== "unauthenticated") return;
    if (!storedToken()) tell("token?");
    // The server's message addresses programmers.
    if (!storedToken()) byId("connection-error").textContent = "This server requires a token.";
    byId("sign-in").hidden = false;
    byId("token").focus();
  });
}
