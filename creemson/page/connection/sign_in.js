/** Signs in with a token where the server requires one. The token is stored until the tab is closed. */

import { byId } from "../dom.js";

const KEY = "creemson.token";

/** @returns {string|null} the token that was entered in this tab */
export function storedToken() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is disabled: the page asks after each reload
  }
}

/**
 * Ask for a token when the server refuses the connection without one.
 *
 * @param {import("../creemson.js").Client} client
 */
export function askForToken(client) {
  byId("sign-in").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, byId("token").value.trim());
    location.reload();
  };
  client.addEventListener("state", ({ detail }) => {
    if (detail.state !== "closed" || detail.error?.reason !== "unauthenticated") return;
    // The server's message addresses programmers.
    if (!storedToken()) byId("connection-error").textContent = "This server requires a token.";
    byId("sign-in").hidden = false;
    byId("token").focus();
  });
}
