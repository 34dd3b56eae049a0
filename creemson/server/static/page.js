/** The page: its parts, and what one says to another. */

import { showConnection } from "./connection.js";
import { connect } from "./creemson.js";
import { byId, showError } from "./dom.js";
import { FileList, JobList } from "./lists.js";
import { unfinishedRun } from "./memory.js";
import { QueryForm } from "./query.js";
import { Result } from "./result.js";
import { Runs } from "./run.js";
import { askForToken, givenToken } from "./signin.js";
import { Uploads } from "./uploads.js";

const client = connect(undefined, { name: "page", token: givenToken() });
const jobs = new JobList(client, (job) => {
  runs.join(job);
  byId("progress-title").focus();
});
const result = new Result(client);
const runs = new Runs(client, {
  changed: () => jobs.refresh(),
  begun: () => result.hide(),
  done: (output) => result.show(output),
});
const form = new QueryForm((query) => runs.start(query));
const files = new FileList(client, { use, removed: (filename) => form.hide(filename) });
let wanted = null; // the file that was chosen last

new Uploads(client, ({ filename, columns }) => {
  files.refresh();
  // Somebody who fills in the form for one file is not interrupted by another; it waits in the list.
  if (form.isBusy && form.filename !== filename) return;
  if (columns.length) form.show(filename, columns);
  else use(filename); // asking for the columns tells why there are none
});

async function use(filename) {
  wanted = filename;
  try {
    const columns = await client.columns(filename);
    if (wanted !== filename) return;
    form.show(filename, columns);
    showError(byId("files-error"), null);
  } catch (error) {
    showError(byId("files-error"), error);
  }
}

const before = unfinishedRun();
if (before) runs.join(before, true);

function refresh() {
  files.refresh();
  jobs.refresh();
}

showConnection(client, refresh);
askForToken(client);
// Others may have been at work while nobody looked.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
