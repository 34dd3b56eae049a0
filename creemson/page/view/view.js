/** What is shown of a file: its rows at once, then as they are searched, filtered, sorted and grouped. */

import { byId, focusUnlessBusy } from "../dom.js";
import { exactJson, isNumeric, share, visible } from "../format.js";
import { chart } from "../table/charts.js";
import { typeWord } from "../table/types.js";
import { toHash } from "./address.js";
import { groupsOf, isComputed, rowsOf, shownOf } from "./requests.js";
import { Rows } from "./rows.js";
import { Toolbar } from "./toolbar.js";
import { calledIn, computedNames, viewWords } from "./words.js";
import { Work } from "./work.js";

/** The open file; everything in it follows the state. */
export class FileView {
  #client;
  #store;
  #rows;
  #work; // computes groups
  #downloads; // go on while something else is shown
  #toolbar;
  #tools = null; // until rows have been shown
  #on;
  #description = null; // columns, reading and issues of the file
  #groups = null; // request and output of the latest job for groups
  #columns = []; // of the rows: name, dtype and profile
  #isNew = false; // no rows were shown yet; on a small screen, they are below the files

  /** @param {import("../creemson.js").Client} client
   *  @param {import("./store.js").Store} store
   *  @param {object} on
   *  @param {function(object|null): Promise<void>} on.reread reads the open file with other options
   *  @param {function(): void} on.job called when a job has been accepted, and when it has ended */
  constructor(client, store, on) {
    this.#client = client;
    this.#store = store;
    this.#rows = new Rows(client, {
      menu: (index, header) => this.#openMenu(index, header),
      select: (from, to) => this.#select(from, to),
      again: () => this.draw(),
    });
    this.#work = new Work(client, "work", on.job);
    this.#downloads = new Work(client, "download", on.job, true);
    this.#toolbar = new Toolbar(store);
    this.#on = on;
  }

  /** Show a file that has just been opened.
   *  @param {{columns: object[], reading: object|null, issues: object|null}} description
   *  @param {boolean} isAsked whether somebody has just asked for it: from a list, the focus moves to it */
  open(description, isAsked) {
    const { file } = this.#store.view;
    this.#description = description;
    this.#groups = null;
    this.#rows.hide(); // those of the file before
    this.#tools?.open(description);
    byId("view").dataset.survey = "expected";
    byId("view").hidden = false;
    byId("view-name").textContent = visible(file);
    focusUnlessBusy(byId("view-title"), ...(isAsked ? [byId("files-section"), byId("jobs-section")] : []));
    this.#isNew = true;
    this.draw();
  }

  /** Close the file. */
  close() {
    this.#rows.hide();
    this.#tools?.close();
    this.#work.stop();
    this.#description = null;
    byId("view").hidden = true;
    document.title = "Creemson";
  }

  /** Draw everything from the state.
   *  @param {boolean} typing whether a text is being typed */
  async draw(typing = false) {
    if (!this.#description) return;
    const { view } = this.#store;
    for (const work of [this.#work, this.#downloads]) work.fail(null); // of the view before
    const output = isComputed(view) ? await this.#computed(view) : null;
    if (view !== this.#store.view) return;
    if (!isComputed(view)) this.#work.stop();
    this.#showTitle(view);
    const hasRows = output !== null || !isComputed(view);
    if (hasRows) await this.#drawRows(view, output, typing);
    else this.#rows.fail(); // rows from before would mislead
    await this.#load();
    if (!hasRows || view !== this.#store.view) return;
    this.#tools?.follow(this.#shown(), this.#rows.total);
    if (this.#isNew && byId("grid").getBoundingClientRect().top > innerHeight / 2) byId("view").scrollIntoView();
    this.#isNew = false;
  }

  async #drawRows(view, output, typing) {
    this.#columns = this.#columnsOf(output);
    const names = this.#columns.map(({ name }) => name);
    this.#toolbar.draw(names);
    this.#tools?.draw(names);
    await this.#rows.show(
      {
        filename: output?.filename ?? view.file,
        how: rowsOf(view),
        limit: view.limit,
        columns: this.#shown().map((column) => this.#gridColumn(column)),
        places: this.#shown().map(({ place }) => place),
        decimal: this.#description.reading?.decimal ?? ".",
      },
      typing,
    );
  }

  /** Load what stands around the rows; the next drawing tries again if the server is gone. */
  async #load() {
    const module = await import("./tools.js").catch(() => null);
    if (!module || this.#tools || !this.#description) return;
    this.#tools = new module.Tools(this.#client, this.#store, this.#downloads, {
      reread: this.#on.reread,
      values: (count) => this.#values(count),
      widen: (index, change) => this.#rows.grid?.widen(index, change),
      described: () => this.#describe(),
    });
    this.#tools.open(this.#description);
    this.#tools.draw(this.#columns.map(({ name }) => name));
  }

  #showTitle(view) {
    const words = viewWords(view);
    document.title = visible(`${view.file}${words && `: ${words}`} – Creemson`);
  }

  /** The output of the job that computes groups; null if it failed, which is shown. */
  async #computed(view) {
    const query = groupsOf(view);
    const request = exactJson(query);
    if (this.#groups?.request !== request) {
      this.#toolbar.draw(this.#columns.map(({ name }) => name));
      const output = await this.#work.job("Computing groups", query, toHash(view));
      if (view === this.#store.view) this.#groups = output && { request, output };
      return output;
    }
    return this.#groups.output;
  }

  // --- columns -------------------------------------------------------------------------------------------

  #columnsOf(output) {
    const source = output ?? this.#tools?.survey;
    const profiles = new Map((source?.profile ?? []).map((profile) => [profile.column, profile]));
    const columns = output
      ? output.columns.map((name, place) => ({ name, place, dtype: output.dtypes[place] }))
      : this.#description.columns.map(({ name, index, dtype }) => ({ name, place: index, dtype: profiles.get(name)?.dtype ?? dtype }));
    return columns.map((column) => ({ ...column, profile: profiles.get(column.name) ?? null, rows: source?.rows ?? 0 }));
  }

  #shown() {
    const shown = new Set(shownOf(this.#store.view, this.#columns.map(({ name }) => name)));
    return this.#columns.filter(({ name }) => shown.has(name));
  }

  #gridColumn({ name, dtype, profile, rows }) {
    const { view } = this.#store;
    const { sort, selected } = view;
    let drawn;
    return {
      name: calledIn(view, name),
      type: typeWord(dtype),
      numeric: isNumeric(dtype),
      isComputed: computedNames(view).includes(name),
      note: profile?.nulls ? `${share(profile.nulls, rows)} missing` : "",
      chart: () => (drawn === undefined ? (drawn = profile ? chart(profile, rows) : null) : drawn),
      sorted: sort.find(([column]) => column === name)?.[1] ?? null,
      selected: selected.includes(name),
    };
  }

  /** The file has been profiled: show that in the header. */
  #describe() {
    if (isComputed(this.#store.view)) return;
    this.#columns = this.#columnsOf(null);
    this.#rows.describe(this.#shown().map((column) => this.#gridColumn(column)));
  }

  // --- what people do with columns -----------------------------------------------------------------------

  #openMenu(index, header) {
    const column = this.#shown()[index];
    if (column) this.#tools?.openMenu(column, index, header);
  }

  #select(from, to) {
    const names = this.#shown().slice(Math.min(from, to), Math.max(from, to) + 1).map(({ name }) => name);
    this.#store.change({ selected: names });
  }

  /** The first rows of the view, as values. */
  async #values(count) {
    const { view } = this.#store;
    const wanted = view.limit === null ? count : Math.min(count, view.limit);
    if (!wanted) return [];
    const { rows } = await this.#client.rows(this.#groups && isComputed(view) ? this.#groups.output.filename : view.file, 0, wanted, rowsOf(view));
    return rows.map((row) => this.#shown().map(({ place }) => row[place]));
  }
}
