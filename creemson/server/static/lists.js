/** The lists of the server's files and of jobs. */

import { button, byId, make, showError } from "./dom.js";
import { bytes, moment, whole } from "./format.js";

/** The files that the server has. */
export class FileList {
  #client;
  #on;

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
    byId("files").tBodies[0].replaceChildren(...files.map((file) => this.#row(file)));
    byId("files").hidden = !files.length;
    byId("no-files").hidden = files.length > 0;
  }

  #row({ filename, size, modified }) {
    const actions = make("td");
    const offer = () =>
      actions.replaceChildren(
        button("Use", () => this.#on.use(filename), { ariaLabel: `Use ${filename}` }),
        button("Delete", ask, { ariaLabel: `Delete ${filename}` }),
      );
    const ask = () => {
      const sure = button("Delete it", () => this.#remove(filename), { ariaLabel: `Really delete ${filename}` });
      actions.replaceChildren(sure, button("Keep", offer, { ariaLabel: `Keep ${filename}` }));
      sure.focus();
    };
    offer();
    return make(
      "tr",
      { dataset: { file: filename } },
      make("td", {}, filename),
      make("td", { className: "number" }, bytes(size)),
      make("td", {}, moment(modified)),
      actions,
    );
  }

  async #remove(filename) {
    try {
      await this.#client.remove(filename);
      this.#on.removed(filename);
    } catch (error) {
      showError(byId("files-error"), error);
      return;
    }
    await this.refresh();
  }
}

/** The jobs: the server's, or this page's own where the server does not list them. */
export class JobList {
  #client;
  #own = [];

  /** @param {import("./creemson.js").Client} client */
  constructor(client) {
    this.#client = client;
  }

  /** A run of this page has begun or ended.
   *  @param {object} run as an entry of the server's list */
  changed(run) {
    if (!this.#own.includes(run)) this.#own.unshift(run);
    this.refresh();
  }

  /** Ask the server again. */
  async refresh() {
    let jobs = this.#own;
    try {
      jobs = await this.#client.jobs();
    } catch {
      // what this page has run is better than nothing
    }
    byId("jobs").replaceChildren(...jobs.slice(0, 50).map(entry));
    byId("no-jobs").hidden = jobs.length > 0;
  }
}

function entry({ filename, state, created, rows }) {
  const facts = [state, rows === undefined || rows === null ? null : `${whole(rows)} rows`, moment(created)];
  return make("li", {}, make("span", {}, filename), make("span", {}, facts.filter(Boolean).join(" · ")));
}
