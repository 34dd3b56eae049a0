/** Who we are, where the server wants to know: a token, kept for as long as this tab is open. */

import { byId } from "./dom.js";

const KEY = "creemson.token";

/** @returns {string|null} the token that was given in this tab */
export function givenToken() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // no storage: it is asked for after each reload
  }
}

/**
 * Ask for a token when the server does not let us in without one.
 *
 * @param {import("./creemson.js").Client} client
 */
export function askForToken(client) {
  byId("sign-in").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, byId("token").value.trim());
    location.reload();
  };
  client.addEventListener("state", ({ detail }) => {
    if (detail.state !== "closed" || detail.error?.reason !== "unauthenticated") return;
    // What the server says is for those who write programs.
    if (!givenToken()) byId("connection-error").textContent = "This server lets you in with a token.";
    byId("sign-in").hidden = false;
    byId("token").focus();
  });
}
