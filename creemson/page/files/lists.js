/** The lists of the server's files and of jobs. */

import { announce, button, byId, make, showError } from "./dom.js";
import { bytes, counted, moment } from "./format.js";

const SHOWN = 50; // jobs
const INTERVAL = 5_000; // ms; what others do to their jobs, the server does not tell by itself
const UNFINISHED = new Set(["queued", "running"]);

/** The files that the server has. */
export class FileList {
  #client;
  #on;
  #rows = new Map(); // by all that a row shows, so that a row in use is left alone

  /** @param {import("./creemson.js").Client} client
   *  @param {{use: function(string): void, removed: function(string): void}} on what the buttons do */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
  }

  /** Ask the server again. */
  async refresh() {
    try {
      this.#show(await this.#client.files());
      showError(byId("files-error"), null);
    } catch (error) {
      showError(byId("files-error"), error);
    }
  }

  #show(files) {
    files.sort((one, other) => other.modified - one.modified);
    const rows = new Map();
    for (const file of files) {
      const key = JSON.stringify([file.filename, file.size, file.modified]);
      rows.set(key, this.#rows.get(key) ?? this.#row(file));
    }
    this.#rows = rows;
    place(byId("files").tBodies[0], [...rows.values()]);
    byId("files").hidden = !files.length;
    byId("no-files").hidden = files.length > 0;
  }

  #row({ filename, size, modified }) {
    const actions = make("td");
    const ask = button("Delete", () => {
      const keep = button("Keep", () => offer(ask), { ariaLabel: `Keep ${filename}` });
      const sure = button("Delete it", () => this.#remove(filename), {
        ariaLabel: `Really delete ${filename}`,
        className: "danger",
      });
      actions.replaceChildren(sure, keep);
      keep.focus(); // a second Enter by mistake does no harm
    }, { ariaLabel: `Delete ${filename}` });
    const use = button("Use", () => this.#on.use(filename), { ariaLabel: `Use ${filename}` });
    const offer = (focused) => {
      actions.replaceChildren(use, ask);
      focused?.focus();
    };
    offer();
    return make(
      "tr",
      { dataset: { file: filename } },
      make("td", {}, filename, make("small", { className: "narrow" }, moment(modified))),
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
    announce(`${filename} is deleted.`);
    byId("file-input").focus();
    this.#on.removed(filename);
    await this.refresh();
  }
}

/** Have exactly these children in this order, without moving those that are right: moving takes the focus. */
function place(parent, children) {
  for (const old of [...parent.children]) if (!children.includes(old)) old.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
}

/** The jobs that the server knows, begun here or elsewhere. */
export class JobList {
  #client;
  #onShow;
  #rows = new Map(); // as of the files
  #timer = 0;

  /** @param {import("./creemson.js").Client} client
   *  @param {function({job: string, filename: string}): void} onShow is given the job that somebody wants to see */
  constructor(client, onShow) {
    this.#client = client;
    this.#onShow = onShow;
  }

  /** Ask the server again, and then now and again until all have ended. */
  async refresh() {
    try {
      this.#show((await this.#client.jobs()).slice(0, SHOWN));
      showError(byId("jobs-error"), null);
    } catch (error) {
      showError(byId("jobs-error"), error);
    }
  }

  #show(jobs) {
    const focused = byId("jobs").contains(document.activeElement) ? document.activeElement.closest("li").dataset.job : null;
    const rows = new Map();
    for (const job of jobs) {
      const key = JSON.stringify([job.job, job.state]);
      rows.set(key, this.#rows.get(key) ?? this.#row(job));
    }
    this.#rows = rows;
    place(byId("jobs"), [...rows.values()]);
    byId("no-jobs").hidden = jobs.length > 0;
    if (focused !== null) this.#focus(focused);
    clearTimeout(this.#timer);
    if (jobs.some(({ state }) => UNFINISHED.has(state))) this.#timer = setTimeout(() => this.refresh(), INTERVAL);
  }

  /** A job that has ended has other buttons: the focus was on one that may have gone. */
  #focus(job) {
    if (byId("jobs").contains(document.activeElement)) return;
    const row = [...byId("jobs").children].find((one) => one.dataset.job === job);
    (row?.querySelector("button") ?? byId("jobs-title")).focus();
  }

  #row({ job, filename, state, created, rows = null }) {
    const when = moment(created);
    const name = `${filename}, ${when}`; // a file may have many jobs
    const show = button("Show", () => this.#onShow({ job, filename }), { ariaLabel: `Show ${name}` });
    const stop = button("Cancel", () => this.#cancel(job, filename), { ariaLabel: `Cancel ${name}` });
    const facts = [state, rows === null ? null : counted(rows, "row"), when];
    return make(
      "li",
      { dataset: { job } },
      make("span", {}, filename),
      make("span", { className: "figures" }, facts.filter(Boolean).join(" · ")),
      make("span", { className: "tools" }, ...(state === "cancelled" ? [] : [show]), ...(UNFINISHED.has(state) ? [stop] : [])),
    );
  }

  async #cancel(job, filename) {
    try {
      await this.#client.cancel(job);
      announce(`The job on ${filename} is cancelled.`);
    } catch (error) {
      // What has ended in this moment is not there to be cancelled, and the list says how it ended.
      if (error.reason !== "job_not_found") return showError(byId("jobs-error"), error);
    }
    await this.refresh();
  }
}
