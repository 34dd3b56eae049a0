/** The page: its parts, and what one says to another. */

import { connect } from "./creemson.js";
import { byId, showError } from "./dom.js";
import { FileList, JobList } from "./lists.js";
import { QueryForm } from "./query.js";
import { Runs } from "./run.js";
import { takeFiles } from "./uploads.js";

const client = connect(undefined, { name: "page" });
const jobs = new JobList(client);
const runs = new Runs(client, (run) => jobs.changed(run));
const form = new QueryForm((query) => runs.start(query));
const files = new FileList(client, { use, removed: (filename) => form.hide(filename) });

takeFiles(client, ({ filename, columns }) => {
  files.refresh();
  if (columns.length) form.show(filename, columns);
  else use(filename); // asking for the columns tells why there are none
});

async function use(filename) {
  try {
    form.show(filename, await client.columns(filename));
    showError(byId("files-error"), null);
  } catch (error) {
    showError(byId("files-error"), error);
  }
}

// --- the state of the connection -------------------------------------------------------------------------

let countdown = 0;

function showState({ state, retryIn, error }) {
  clearInterval(countdown);
  byId("connection").dataset.state = state;
  byId("reconnect").hidden = state !== "waiting";
  const text = byId("connection-text");
  if (state === "open") {
    text.textContent = "Connected";
    files.refresh();
    jobs.refresh();
  } else if (state === "waiting") {
    const until = performance.now() + retryIn;
    const count = () => {
      const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      text.textContent = `Connection lost; trying again in ${left} s`;
    };
    count();
    countdown = setInterval(count, 1000);
  } else {
    text.textContent = state === "connecting" ? "Connecting…" : `Not connected${error ? `: ${error.message}` : ""}`;
  }
}

client.addEventListener("state", ({ detail }) => showState(detail));
byId("reconnect").onclick = () => client.reconnectNow();
showState(client.state);
