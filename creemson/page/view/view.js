/** What is shown of a file: its rows at once, then as they are searched, filtered, sorted and grouped. */

import { rememberQuiet } from "../files/asked.js";
import { byId, focusUnlessBusy } from "../dom.js";
import { isNumeric, share, visible } from "../format.js";
import { chart } from "../result/charts.js";
import { typeWord } from "../table/types.js";
import { ViewDownloads } from "./downloads.js";
import { Findings } from "./findings.js";
import { ColumnMenu } from "../menu/menu.js";
import { Plot } from "./plot.js";
import { groupsOf, isComputed, processOf, rowsOf, shownOf } from "./requests.js";
import { Rows } from "./rows.js";
import { Survey } from "./survey.js";
import { Toolbar } from "./toolbar.js";
import { computedName, viewWords } from "./words.js";
import { Work } from "./work.js";

const TEXT_FORMATS = ["csv", "fixed"];
const MAX_COUNTED = 101; // values of a column that are counted: one more than are listed

/** The open file; everything in it follows the state. */
export class FileView {
  #client;
  #store;
  #rows;
  #survey;
  #menu;
  #work;
  #toolbar;
  #downloads;
  #plot;
  #findings;
  #description = null; // columns, reading and issues of the file
  #groups = null; // request and output of the latest job for groups
  #columns = []; // of the rows: name, dtype and profile

  /** @param {import("../creemson.js").Client} client
   *  @param {import("./store.js").Store} store */
  constructor(client, store) {
    this.#client = client;
    this.#store = store;
    this.#rows = new Rows(client, {
      menu: (index, header) => this.#openMenu(index, header),
      select: (from, to) => this.#select(from, to),
    });
    this.#survey = new Survey(client, () => this.#describe());
    this.#menu = new ColumnMenu(store, { count: (name) => this.#count(name), widen: (index, change) => this.#rows.grid?.widen(index, change) });
    this.#work = new Work(client);
    this.#toolbar = new Toolbar(store);
    this.#downloads = new ViewDownloads(this.#work, () => processOf(store.view, this.#columns.map(({ name }) => name)), () => viewWords(store.view));
    this.#plot = new Plot((count) => this.#values(count));
    this.#findings = new Findings(this.#work);
  }

  /** Show a file that has just been opened.
   *  @param {{columns: object[], reading: object|null}} description */
  open(description) {
    const { file } = this.#store.view;
    this.#description = description;
    this.#groups = null;
    this.#rows.hide(); // those of the file before
    this.#survey.expect();
    byId("view").hidden = false;
    byId("view-name").textContent = visible(file);
    this.#findings.hide();
    focusUnlessBusy(byId("view-title"), byId("files-section"));
    this.draw();
  }

  /** Close the file. */
  close() {
    this.#rows.hide();
    this.#survey.stop();
    this.#work.stop();
    this.#description = null;
    byId("view").hidden = true;
    document.title = "Creemson";
  }

  /** Give way to a job that somebody asked for. */
  yield() {
    this.#survey.yield();
  }

  /** Draw everything from the state.
   *  @param {boolean} typing whether a text is being typed */
  async draw(typing = false) {
    if (!this.#description) return;
    const { view } = this.#store;
    const output = isComputed(view) ? await this.#computed(view) : null;
    if (view !== this.#store.view || (isComputed(view) && !output)) return;
    if (!isComputed(view)) this.#work.stop();
    this.#showTitle(view);
    this.#columns = this.#columnsOf(output);
    this.#toolbar.draw(this.#columns.map(({ name }) => name));
    this.#downloads.show(view.file, this.#description.reading, view.find);
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
    this.#plot.show(this.#shown());
    if (view === this.#store.view) this.#survey.start(view, this.#description.columns.length, this.#rows.total);
  }

  #showTitle(view) {
    const words = viewWords(view);
    document.title = visible(`${view.file}${words && `: ${words}`} – Creemson`);
  }

  /** The output of the job that computes groups; null if it failed, which is shown. */
  async #computed(view) {
    const query = groupsOf(view);
    const request = JSON.stringify(query);
    if (this.#groups?.request !== request) {
      this.#toolbar.draw(this.#columns.map(({ name }) => name));
      const output = await this.#work.job("Computing groups", query, viewWords(view));
      if (view === this.#store.view) this.#groups = output && { request, output };
      return output;
    }
    return this.#groups.output;
  }

  // --- columns -------------------------------------------------------------------------------------------

  #columnsOf(output) {
    const source = output ?? this.#survey.output;
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
    const { sort, selected, rename, aggregate } = this.#store.view;
    let drawn;
    return {
      name: rename[name] ?? name,
      type: typeWord(dtype),
      numeric: isNumeric(dtype),
      isComputed: aggregate.some(([column, what]) => computedName(column, what) === name),
      note: profile?.nulls ? `${share(profile.nulls, rows)} missing` : "",
      chart: () => (drawn === undefined ? (drawn = profile ? chart(profile, rows) : null) : drawn),
      sorted: sort.find(([column]) => column === name)?.[1] ?? null,
      selected: selected.includes(name),
    };
  }

  /** The file has been profiled: show that in the header. */
  #describe() {
    this.#findings.show(this.#store.view.file, this.#survey.output.issues);
    if (isComputed(this.#store.view)) return;
    this.#columns = this.#columnsOf(null);
    this.#rows.describe(this.#shown().map((column) => this.#gridColumn(column)));
  }

  // --- what people do with columns -----------------------------------------------------------------------

  #openMenu(index, header) {
    const column = this.#shown()[index];
    if (!column) return;
    const { view } = this.#store;
    const { reading, columns } = this.#description;
    const facts = {
      ...column,
      shown: view.rename[column.name] ?? column.name,
      names: columns.map(({ name }) => name),
      isComputed: isComputed(view),
      isText: TEXT_FORMATS.includes(reading?.format),
      decimal: reading?.decimal ?? ".",
    };
    this.#menu.open(facts, index, header);
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

  /** The most frequent values of a column, in the rows that the other filters keep. */
  async #count(name) {
    const { file, options, where } = this.#store.view;
    const others = where.filter(([column]) => column !== name);
    const query = {
      filename: file, group_by: [name], aggregate: [[name, "count", "rows that have it"]], sort: [["rows that have it", "desc"]],
      limit: MAX_COUNTED, preview: MAX_COUNTED, on_disconnect: "cancel", ...(options && { options }), ...(others.length && { where: others }),
    };
    const { output_data: output } = await this.#client.process(query, { onAccepted: rememberQuiet }).promise;
    return output.preview.map(([value, count]) => [value, count]);
  }
}
