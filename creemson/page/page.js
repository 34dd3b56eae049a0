/** Entry point of the page: creates its parts and connects them. */

import { showConnection } from "./connection/status.js";
import { askForToken, storedToken } from "./connection/sign_in.js";
import { connect } from "./creemson.js";
import { listen, tell } from "./connection/tabs.js";
import { byId, showError } from "./dom.js";
import { FileList, JobList } from "./files/lists.js";
import { unfinishedRun } from "./files/unfinished.js";
import { Uploads } from "./files/uploads.js";
import { counted } from "./format.js";
import { QueryForm } from "./query/form.js";
import { Result } from "./result/result.js";
import { Runs } from "./result/run.js";
import { Store } from "./view/store.js";
import { FileView } from "./view/view.js";

const client = connect(undefined, { name: "page", token: storedToken() });
const store = new Store(follow);
const jobs = new JobList(client, (job) => {
  runs.attach(job);
  byId("progress-title").focus();
}, (filename) => files.modified(filename));
const result = new Result(client);
const runs = new Runs(client, {
  changed: () => jobs.refresh(),
  started: () => {
    view.yield();
    result.hide();
  },
  done: (output) => result.show(output),
});
const view = new FileView(client, store);
const form = new QueryForm(
  (query) => runs.start(query),
  (filename, options) => client.describe(filename, options),
  (options, description) => {
    described = { file: store.view.file, options, description, inForm: true };
    store.change({ options });
  },
);
const files = new FileList(client, {
  use,
  removed: (filename) => {
    tell("files");
    if (filename === store.view.file) store.open(null);
  },
});
let described = null; // the open file: name, options, description, and whether the form shows them
let requested = null; // the latest request for a description

const uploads = new Uploads(client, ({ filename, columns }, batch) => {
  files.note(filename, columns.length ? counted(columns.length, "column") : "not a table that can be read");
  refresh();
  tell("files");
  if (filename === store.view.file) return reopen(); // with the filters that were chosen
  // Of several files, the first readable one is shown. None replaces a form that the user is filling in for another file.
  const isFirst = !batch.isOpen && (columns.length > 0 || batch.isOnly);
  if (!isFirst || form.isBusy) return;
  batch.isOpen = true;
  use(filename);
});

byId("sample").onclick = async () => {
  const bytes = await (await fetch("static/sample.csv")).blob();
  uploads.add(new File([bytes], "sample.csv", { lastModified: 0 }));
};
listen({ files: () => refresh() });

/** Show a file as it is; it is read again if it is shown already. */
function use(filename) {
  described = null;
  store.open(filename);
}

/** Show the file of the state again: its content has changed. */
function reopen() {
  described = null;
  open();
}

/** The view has changed: by a control, or because the address has. */
function follow(now, before) {
  const isOther = now.file !== before.file || JSON.stringify(now.options) !== JSON.stringify(before.options);
  if (isOther || !described) open();
  else view.draw(now.find !== before.find);
}

/** Open the file of the state. */
async function open() {
  const { file, options } = store.view;
  const request = (requested = {});
  if (file === null) return close();
  try {
    const isKnown = described?.file === file && described.options === options;
    const [description, found] = isKnown ? [described.description, options] : await describeTable(file, options);
    if (requested !== request) return;
    described = { file, options: found, description, inForm: isKnown && described.inForm };
    showError(byId("files-error"), null);
    if (found !== options) return store.change({ options: found }, true); // opens it
    if (!described.inForm) form.show(file, description, options);
    view.open(description);
  } catch (error) {
    if (requested === request) showError(byId("files-error"), error);
  }
}

function close() {
  described = null;
  form.hide();
  view.close();
}

/** Describe a file; of an archive with several tables, the first one, from which people can go on to another. */
async function describeTable(filename, options) {
  try {
    return [await client.describe(filename, options), options];
  } catch (error) {
    const [first] = error.details ?? [];
    if (!first || !error.message.includes("options.sheet")) throw error;
    const found = { ...options, sheet: first };
    return [await client.describe(filename, found), found];
  }
}

const interrupted = unfinishedRun();
if (interrupted) runs.attach(interrupted, true);
if (store.view.file !== null) open(); // the address names it

function refresh() {
  files.refresh();
  jobs.refresh();
}

showConnection(client, refresh);
askForToken(client);
// Other clients may have changed files and jobs while the page was hidden.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
