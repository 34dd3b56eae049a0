/** What stands around the rows. It is loaded once rows are shown, so that they come sooner. */

import { rememberQuiet } from "../files/asked.js";
import { ColumnMenu } from "../menu/menu.js";
import { ReadingOptions } from "../reading/options.js";
import { toHash } from "./address.js";
import { ViewDownloads } from "./downloads.js";
import { Findings } from "./findings.js";
import { Plot } from "./plot.js";
import { isComputed, processOf, shownOf } from "./requests.js";
import { Survey } from "./survey.js";
import { calledIn } from "./words.js";

const TEXT_FORMATS = ["csv", "fixed"];
const MAX_COUNTED = 101; // values of a column that are counted: one more than are listed

/** The menu of a column, reading options, downloads, chart, and what is found in the whole file. */
export class Tools {
  #client;
  #store;
  #menu;
  #options;
  #downloads;
  #plot;
  #findings;
  #survey;
  #description = null;
  #names = []; // of the columns of the rows

  /** @param {import("../creemson.js").Client} client
   *  @param {import("./store.js").Store} store
   *  @param {import("./work.js").Work} work
   *  @param {object} on
   *  @param {function(object|null): Promise<void>} on.reread reads the open file with other options
   *  @param {function(number): Promise<any[][]>} on.values returns the first rows of the view, as values, given their number
   *  @param {function(number, number): void} on.widen called with the number of a column and px
   *  @param {function(): void} on.described called when the whole file has been profiled */
  constructor(client, store, work, on) {
    this.#client = client;
    this.#store = store;
    this.#menu = new ColumnMenu(store, { count: (name) => this.#count(name), widen: on.widen });
    this.#options = new ReadingOptions(on.reread, (strict) => store.change({ strict }));
    this.#downloads = new ViewDownloads(work, () => processOf(store.view, this.#names), () => toHash(store.view));
    this.#plot = new Plot(on.values);
    this.#findings = new Findings(work);
    this.#survey = new Survey(client, (output) => {
      this.#findings.show(store.view.file, output.issues);
      on.described();
    });
  }

  /** @returns {object|null} `output_data` of the job that has profiled the whole file */
  get survey() {
    return this.#survey.output;
  }

  /** A file has been opened.
   *  @param {{columns: object[], reading: object|null, issues: object|null}} description */
  open(description) {
    this.#description = description;
    this.#survey.stop();
    this.#findings.expect(description.issues);
  }

  /** The file has been closed. */
  close() {
    this.#survey.stop();
  }

  /** Draw what depends on the view only.
   *  @param {string[]} names of the columns of the rows */
  draw(names) {
    const { view } = this.#store;
    const { reading } = this.#description;
    this.#names = names;
    this.#options.show(reading, view.options, view.strict);
    this.#downloads.show(view.file, reading, this.#obstacle());
  }

  /** @returns {string} why nothing can be downloaded, or "" */
  #obstacle() {
    const { view } = this.#store;
    if (view.find) return "Downloads have filters, but not a text to find: filter a column in its menu instead.";
    return this.#names.length && !shownOf(view, this.#names).length ? "All columns are hidden: show at least one." : "";
  }

  /** The rows are shown.
   *  @param {{name: string, dtype: string}[]} columns that are shown
   *  @param {number|null} rows null if their number is unknown */
  follow(columns, rows) {
    this.#plot.show(columns);
    this.#survey.start(this.#store.view, this.#description.columns.length, rows);
  }

  /** @param {object} column of the rows
   *  @param {number} index of it in the grid
   *  @param {HTMLElement} header which the menu is placed below */
  openMenu(column, index, header) {
    const { view } = this.#store;
    const { reading, columns } = this.#description;
    const facts = {
      ...column,
      shown: calledIn(view, column.name),
      names: columns.map(({ name }) => name),
      isComputed: isComputed(view),
      isText: TEXT_FORMATS.includes(reading?.format),
      decimal: reading?.decimal ?? ".",
    };
    this.#menu.open(facts, index, header);
  }

  /** The most frequent values of a column, in the rows that the other filters keep. */
  async #count(name) {
    const { file, options, where } = this.#store.view;
    const others = where.filter(([column]) => column !== name);
    const count = `rows with its ${name}`; // not a name that the column has
    const query = {
      filename: file, group_by: [name], aggregate: [["*", "count", count]], sort: [[count, "desc"]],
      limit: MAX_COUNTED, preview: MAX_COUNTED, on_disconnect: "cancel", ...(options && { options }), ...(others.length && { where: others }),
    };
    const { output_data: output } = await this.#client.process(query, { onAccepted: rememberQuiet }).promise;
    return output.preview;
  }
}
