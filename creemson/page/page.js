/** Entry point of the page: creates its parts and connects them. */

import { showConnection } from "./connection/status.js";
import { askForToken, storedToken } from "./connection/sign_in.js";
import { connect } from "./creemson.js";
import { listen, tell } from "./connection/tabs.js";
import { byId, showError } from "./dom.js";
import { FileList, JobList } from "./files/lists.js";
import { Uploads } from "./files/uploads.js";
import { counted } from "./format.js";
import { Store } from "./view/store.js";
import { FileView } from "./view/view.js";
import { Work } from "./view/work.js";

const client = connect(undefined, { name: "page", token: storedToken() });
const store = new Store(follow);
const jobs = new JobList(client, show, (filename) => files.modified(filename));
const view = new FileView(client, store, { reread, job: () => jobs.refresh() });
const follower = new Work(client, "job", () => jobs.refresh());
const files = new FileList(client, {
  use,
  changed: (filename) => filename === store.view.file && reopen(),
  removed: (filename) => {
    tell("files");
    if (filename === store.view.file) store.open(null);
  },
});
let described = null; // the open file: name, options, description
let requested = null; // the latest request for a description

const uploads = new Uploads(client, () => store.view, (uploaded, batch) => {
  const { filename, columns } = uploaded;
  files.note(filename, columns.length ? counted(columns.length, "column") : "not a table that can be read");
  if (filename === store.view.file) reopen(); // with the filters that were chosen
  else if (isToShow(uploaded, batch)) use(filename);
  refresh(); // the rows are asked for first
  tell("files");
});

/** Of several files, the first readable one is shown. None replaces a view with which somebody has gone on since the drop. */
function isToShow({ columns }, batch) {
  const isFirst = !batch.isOpen && (columns.length > 0 || batch.isOnly);
  batch.isOpen ||= isFirst;
  return isFirst && batch.view === store.view && !document.querySelector("dialog[open]");
}

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

/** Open the file of the state.
 *  @param {boolean} isAsked whether somebody has just asked for it on the page */
async function open(isAsked = true) {
  const { file, options } = store.view;
  const request = (requested = {});
  if (file === null) return close();
  try {
    const isKnown = described?.file === file && described.options === options;
    const [description, found] = isKnown ? [described.description, options] : await describeTable(file, options);
    if (requested !== request) return;
    described = { file, options: found, description };
    showError(byId("files-error"), null);
    if (found !== options) return store.change({ options: found }, true); // opens it
    view.open(description, isAsked);
  } catch (error) {
    if (requested !== request) return;
    close(); // another file's rows, or those of another reading, would mislead
    showError(byId("files-error"), error);
  }
}

function close() {
  described = null;
  view.close();
}

/** Read the open file in another way; its view changes only if that works, and if nothing else has been asked since. */
async function reread(options) {
  const { file } = store.view;
  const request = (requested = {});
  const description = await client.describe(file, options);
  if (requested !== request) return;
  described = { file, options, description };
  store.change({ options });
}

/** Show what a job was for, or its output if that is not known here or of an earlier version of its file. */
async function show({ job, address, isOld }) {
  if (address && !isOld) return store.go(address);
  const before = store.view;
  const output = await follower.attach("Waiting for the job", job);
  if (output && store.view === before) store.open(output.filename); // else somebody has gone on with something else
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

if (store.view.file !== null) open(false); // the address names it

function refresh() {
  files.refresh();
  jobs.refresh();
}

showConnection(client, refresh);
askForToken(client);
// Other clients may have changed files and jobs while the page was hidden.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
