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
const form = new QueryForm((query) => runs.start(query), (filename, options) => client.describe(filename, options));
const files = new FileList(client, { use, removed: (filename) => form.hide(filename) });
let wanted = null; // the file that was chosen last

new Uploads(client, ({ filename }) => {
  files.refresh();
  // Somebody who fills in the form for one file is not interrupted by another; it waits in the list.
  if (!form.isBusy || form.filename === filename) use(filename);
});

async function use(filename) {
  wanted = filename;
  try {
    const found = await client.describe(filename);
    if (wanted !== filename) return;
    form.show(filename, found);
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
