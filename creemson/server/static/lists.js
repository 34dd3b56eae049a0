/** The lists of the server's files and of jobs. */

import { announce, button, byId, make, showError } from "./dom.js";
import { bytes, counted, moment } from "./format.js";

const SHOWN = 50; // jobs

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

/** The jobs: the server's, or this page's own where the server does not list them. */
export class JobList {
  #client;
  #own = [];

  /** @param {import("./creemson.js").Client} client */
  constructor(client) {
    this.#client = client;
  }

  /** A run of this page has begun, moved on, or ended.
   *  @param {object} run as an entry of the server's list */
  changed(run) {
    if (!this.#own.includes(run)) this.#own.unshift(run);
    this.refresh();
  }

  /** Ask the server again. */
  async refresh() {
    let jobs = this.#own;
    let problem = null;
    try {
      jobs = await this.#client.jobs();
    } catch (error) {
      if (error.reason !== "unknown_type") problem = error;
    }
    showError(byId("jobs-error"), problem);
    byId("jobs").replaceChildren(...jobs.slice(0, SHOWN).map(entry));
    byId("no-jobs").hidden = jobs.length > 0;
  }
}

function entry({ filename, state, created, rows }) {
  const facts = [state, rows === undefined || rows === null ? null : counted(rows, "row"), moment(created)];
  return make("li", {}, make("span", {}, filename), make("span", {}, facts.filter(Boolean).join(" · ")));
}
