/** Entry point of the page: creates its parts and connects them. */

import { showConnection } from "./connection/status.js";
import { askForToken, storedToken } from "./connection/sign_in.js";
import { connect } from "./creemson.js";
import { byId, showError } from "./dom.js";
import { FileList, JobList } from "./files/lists.js";
import { unfinishedRun } from "./files/unfinished.js";
import { Uploads } from "./files/uploads.js";
import { QueryForm } from "./query/form.js";
import { Result } from "./result/result.js";
import { Runs } from "./result/run.js";

const client = connect(undefined, { name: "page", token: storedToken() });
const jobs = new JobList(client, (job) => {
  runs.attach(job);
  byId("progress-title").focus();
});
const result = new Result(client);
const runs = new Runs(client, {
  changed: () => jobs.refresh(),
  started: () => result.hide(),
  done: (output) => result.show(output),
});
const form = new QueryForm((query) => runs.start(query), (filename, options) => client.describe(filename, options));
const files = new FileList(client, { use, removed: (filename) => form.hide(filename) });
let requested = null; // name of the file that was chosen last

new Uploads(client, ({ filename }) => {
  files.refresh();
  // A new upload does not replace a form that the user is filling in for another file.
  if (!form.isBusy || form.filename === filename) use(filename);
});

async function use(filename) {
  requested = filename;
  try {
    const [description, table] = await describeTable(filename);
    if (requested !== filename) return;
    form.show(filename, description, table);
    showError(byId("files-error"), null);
  } catch (error) {
    showError(byId("files-error"), error);
  }
}

/** Describe a file; of an archive with several tables, the first one, from which people can go on to another. */
async function describeTable(filename) {
  try {
    return [await client.describe(filename), null];
  } catch (error) {
    const [first] = error.details ?? [];
    if (!first || !error.message.includes("options.sheet")) throw error;
    return [await client.describe(filename, { sheet: first }), first];
  }
}

const interrupted = unfinishedRun();
if (interrupted) runs.attach(interrupted, true);

function refresh() {
  files.refresh();
  jobs.refresh();
}

showConnection(client, refresh);
askForToken(client);
// Other clients may have changed files and jobs while the page was hidden.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
