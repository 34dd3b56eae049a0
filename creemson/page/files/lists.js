/** The list of the server's files and the list of its jobs. */

import { announce, button, byId, make, showError } from "../dom.js";
import { bytes, counted, moment } from "../format.js";
import { fromHash } from "../view/address.js";
import { viewWords } from "../view/words.js";
import { withAddress } from "./asked.js";

const MAX_JOBS = 50; // shown
const INTERVAL = 5_000; // ms between requests; the server does not report changes of other clients' jobs
const STATES = { queued: "waiting" };
const UNFINISHED = new Set(["queued", "running"]);

/**
 * The rows of a list. A row is rebuilt only if its content has changed, and moved only if its position has: both
 * take away the focus.
 */
class Rows {
  #parent;
  #build;
  #rows = new Map(); // by the content that they show

  /** @param {HTMLElement} parent
   *  @param {function(object): HTMLElement} build creates the row of an item */
  constructor(parent, build) {
    this.#parent = parent;
    this.#build = build;
  }

  /** @param {object[]} items in the order in which they are shown
   *  @param {function(object): any[]} contentOf the fields that a row shows */
  update(items, contentOf) {
    const rows = new Map();
    for (const item of items) {
      const key = JSON.stringify(contentOf(item));
      rows.set(key, this.#rows.get(key) ?? this.#build(item));
    }
    this.#rows = rows;
    const children = [...rows.values()];
    for (const old of [...this.#parent.children]) if (!children.includes(old)) old.remove();
    children.forEach((child, index) => {
      const current = this.#parent.children[index] ?? null;
      if (current !== child) this.#parent.insertBefore(child, current);
    });
  }
}

/** The files on the server. */
export class FileList {
  #client;
  #on;
  #rows;
  #files = new Map();
  #words = new Map(); // what this page has found in a file that it has uploaded

  /** @param {import("../creemson.js").Client} client
   *  @param {{use: function(string): void, removed: function(string): void, changed: function(string): void}} on called with
   *   a filename; `changed`: somebody else has replaced it */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    this.#rows = new Rows(byId("files").tBodies[0], (file) => this.#row(file));
  }

  /** Request the list again and show it. */
  async refresh() {
    try {
      this.#show(await this.#client.files());
      showError(byId("files-error"), null);
    } catch (error) {
      showError(byId("files-error"), error);
    }
  }

  /** @param {string} filename
   *  @returns {number|undefined} when it was last changed, in seconds since 1970; undefined if that is not known */
  modified(filename) {
    return this.#files.get(filename)?.modified;
  }

  /** Say what is in a file that has just been uploaded here.
   *  @param {string} filename
   *  @param {string} words */
  note(filename, words) {
    this.#files.delete(filename); // it was not somebody else who has replaced it
    this.#words.set(filename, words);
  }

  #show(files) {
    files.sort((one, other) => other.modified - one.modified);
    const isOther = ({ size, modified }, before) => before && (before.size !== size || before.modified !== modified);
    const changed = files.filter((file) => isOther(file, this.#files.get(file.filename)));
    this.#files = new Map(files.map((file) => [file.filename, file]));
    this.#rows.update(files, ({ filename, size, modified }) => [filename, size, modified, this.#words.get(filename)]);
    byId("files").hidden = !files.length;
    byId("no-files").hidden = files.length > 0;
    for (const { filename } of changed) this.#on.changed(filename);
  }

  #row({ filename, size, modified }) {
    const actions = make("td");
    const remove = button("Delete", () => {
      const keep = button("Keep", () => showActions(remove), { ariaLabel: `Keep ${filename}` });
      const confirm = button("Delete it", () => this.#remove(filename), {
        ariaLabel: `Really delete ${filename}`,
        className: "danger",
      });
      actions.replaceChildren(confirm, keep);
      keep.focus(); // an accidental second Enter keeps the file
    }, { ariaLabel: `Delete ${filename}` });
    const use = button("Use", () => this.#on.use(filename), { ariaLabel: `Use ${filename}` });
    const showActions = (focused) => {
      actions.replaceChildren(use, remove);
      focused?.focus();
    };
    showActions();
    return make(
      "tr",
      { dataset: { file: filename } },
      make("td", {}, filename, make("small", { className: "word" }, this.#words.get(filename) ?? ""), make("small", { className: "narrow" }, moment(modified))),
      make("td", { className: "number" }, bytes(size)),
      make("td", {}, moment(modified)),
      actions,
    );
  }

  async #remove(filename) {
    try {
      await this.#client.remove(filename);
    } catch (error) {
      showError(byId("files-error"), error);
      return;
    }
    announce(`${filename} was deleted.`);
    byId("file-input").focus();
    this.#on.removed(filename);
    await this.refresh();
  }
}

/** The jobs that the server knows, whoever started them. */
export class JobList {
  #client;
  #onShow;
  #modified;
  #rows;
  #timer = 0;

  /** @param {import("../creemson.js").Client} client
   *  @param {function({job: string, address: string, isOld: boolean}): void} onShow called with the job that the user wants to see
   *  @param {function(string): number|undefined} modified returns when a file was last changed, if it is known */
  constructor(client, onShow, modified) {
    this.#client = client;
    this.#modified = modified;
    this.#onShow = onShow;
    this.#rows = new Rows(byId("jobs"), (job) => this.#row(job));
  }

  /** Request the list again and show it; repeats until all jobs have ended. */
  async refresh() {
    try {
      const jobs = withAddress(await this.#client.jobs()).slice(0, MAX_JOBS);
      this.#show(jobs.map((job) => ({ ...job, isOld: job.created < this.#modified(job.filename) })));
      showError(byId("jobs-error"), null);
    } catch (error) {
      showError(byId("jobs-error"), error);
    }
  }

  #show(jobs) {
    const focused = byId("jobs").contains(document.activeElement) ? document.activeElement.closest("li").dataset.job : null;
    this.#rows.update(jobs, ({ job, state, isOld }) => [job, state, isOld]);
    byId("no-jobs").hidden = jobs.length > 0;
    if (focused !== null) this.#restoreFocus(focused);
    clearTimeout(this.#timer);
    if (jobs.some(({ state }) => UNFINISHED.has(state))) this.#timer = setTimeout(() => this.refresh(), INTERVAL);
  }

  /** When a job ends, its row is rebuilt with other buttons, and the focused button may be gone. */
  #restoreFocus(job) {
    if (byId("jobs").contains(document.activeElement)) return;
    const row = [...byId("jobs").children].find((one) => one.dataset.job === job);
    (row?.querySelector("button") ?? byId("jobs-title")).focus();
  }

  #row(entry) {
    const { job, filename, state, created, rows = null, address, isOld } = entry;
    const when = moment(created);
    const name = `${filename}, ${when}`; // several jobs may process the same file
    const show = button("Show", () => this.#onShow(entry), { ariaLabel: `Show ${name}` });
    const cancel = button("Cancel", () => this.#cancel(job, filename), { ariaLabel: `Cancel ${name}` });
    const facts = [viewWords(fromHash(address)), STATES[state] ?? state, rows === null ? null : counted(rows, "row"), when, isOld ? "of an earlier version of the file" : null];
    return make(
      "li",
      { dataset: { job } },
      make("span", {}, filename),
      make("span", { className: "figures" }, facts.filter(Boolean).join(" · ")),
      make("span", { className: "tools" }, ...(state === "cancelled" ? [] : [show]), ...(UNFINISHED.has(state) ? [cancel] : [])),
    );
  }

  async #cancel(job, filename) {
    try {
      await this.#client.cancel(job);
      announce(`The job for ${filename} was cancelled.`);
    } catch (error) {
      // A job that has just ended can no longer be cancelled; the list shows how it ended.
      if (error.reason !== "job_not_found") return showError(byId("jobs-error"), error);
    }
    await this.refresh();
  }
}
