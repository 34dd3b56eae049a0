/** The form for a query on a file: reading options, columns, filters, sort keys and limit. */

import { byId, make, showError } from "../dom.js";
import { visible, whole } from "../format.js";
import { showIssues, showReading } from "../result/reading.js";
import { typeWord } from "../table/types.js";
import { matchingColumns } from "./column_choice.js";
import { Filter, SortKey } from "./filters.js";
import { ReadingOptions } from "./read_options.js";

const MAX_SHOWN = 300; // check boxes at a time; the search finds the others
const MAX_PROFILED = 1000; // columns; each profile takes half a kilobyte of the message

/** The query form; it shows one file at a time. */
export class QueryForm {
  #filename = "";
  #columns = [];
  #selected = new Set();
  #filters = [];
  #sortKeys = [];
  #options = new ReadingOptions(() => this.#redescribe());
  #describe;
  #onDescribed;
  #touched = false; // whether the user has changed anything
  #revision = 0; // counts requests for a description; only the latest response is used

  /** @param {function(object): void} onRun called with a query for `client.process`
   *  @param {function(string, object|null): Promise<object>} describe returns columns, reading and issues of a
   *   file, given its name and the reading options
   *  @param {function(object|null, object): void} onDescribed called with changed reading options and the
   *   description that they give */
  constructor(onRun, describe, onDescribed) {
    const form = byId("query-form");
    this.#describe = describe;
    this.#onDescribed = onDescribed;
    byId("columns-search").addEventListener("input", () => this.#showColumns());
    byId("columns-search").addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
    byId("columns-all").onclick = () => this.#select(this.#matches(), true);
    byId("columns-none").onclick = () => this.#select(this.#matches(), false);
    byId("add-filter").onclick = () => this.#add(Filter, this.#filters, "filter");
    byId("add-sort").onclick = () => this.#add(SortKey, this.#sortKeys, "sort");
    form.addEventListener("input", () => (this.#touched = true));
    // The browser cannot show a validation message in collapsed details.
    form.addEventListener("invalid", ({ target }) => (target.closest("details").open = true), true);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(onRun);
    });
  }

  /** Whether the user is filling in the form, so that another file must not replace it. */
  get isBusy() {
    return this.#touched && !byId("query").hidden;
  }

  /** @returns {string} the file that the form shows */
  get filename() {
    return this.#filename;
  }

  /** Show the columns of a file, all of them selected.
   *  @param {string} filename
   *  @param {{columns: {index: number, name: string, dtype: string}[], reading: object|null,
   *   issues: object|null}} description
   *  @param {object|null} options how the file is read, where that is not detected */
  show(filename, description, options = null) {
    this.#filename = filename;
    this.#revision += 1;
    this.#touched = false;
    byId("query-name").textContent = visible(filename);
    byId("run").disabled = false;
    this.#options.reset(description.reading, options);
    this.#resetColumns(description.columns);
    this.#showReading(description);
    byId("query").hidden = false;
  }

  /** Hide the form. */
  hide() {
    byId("query").hidden = true;
  }

  // --- how the file is read ------------------------------------------------------------------------------

  /** Request the description again after the options have changed: the columns may differ. */
  async #redescribe() {
    this.#revision += 1;
    const revision = this.#revision;
    byId("run").disabled = true; // the selected columns may be out of date
    try {
      const options = this.#options.read();
      const description = await this.#describe(this.#filename, options);
      if (revision !== this.#revision) return;
      this.#options.showDetected(description.reading);
      const names = (columns) => JSON.stringify(columns.map(({ name, dtype }) => [name, dtype]));
      if (names(description.columns) !== names(this.#columns)) this.#resetColumns(description.columns);
      this.#showReading(description);
      this.#onDescribed(options, description);
      showError(byId("options-error"), null);
    } catch (error) {
      if (revision === this.#revision) showError(byId("options-error"), error);
    }
    if (revision === this.#revision) byId("run").disabled = false;
  }

  /** Show these columns, all of them selected, without filters, sort keys and limit. */
  #resetColumns(columns) {
    this.#columns = columns;
    this.#selected = new Set(columns.map(({ index }) => index));
    this.#filters = [];
    this.#sortKeys = [];
    byId("columns-search").value = "";
    byId("filter-list").replaceChildren();
    byId("sort-list").replaceChildren();
    byId("limit").value = "";
    for (const name of ["query-error", "options-error"]) showError(byId(name), null);
    this.#showColumns();
  }

  #showReading({ reading, issues }) {
    showReading(byId("query-reading"), reading);
    showIssues(byId("query-issues"), issues, { title: "Issues in the first 64 KiB", open: false });
  }

  // --- columns -------------------------------------------------------------------------------------------

  #matches() {
    return matchingColumns(this.#columns, byId("columns-search").value.trim());
  }

  #select(columns, selected) {
    for (const { index } of columns) this.#setSelected(index, selected);
    this.#touched = true;
    this.#showColumns();
  }

  #setSelected(index, selected) {
    if (selected) this.#selected.add(index);
    else this.#selected.delete(index);
  }

  #showColumns() {
    const matches = this.#matches();
    byId("columns").replaceChildren(...matches.slice(0, MAX_SHOWN).map((column) => this.#checkBox(column)));
    const more = byId("columns-more");
    more.hidden = matches.length > 0 && matches.length <= MAX_SHOWN;
    more.textContent = matches.length
      ? `${whole(matches.length - MAX_SHOWN)} more are not shown; use the search to find them. All and None apply to them, too.`
      : "No column name contains this text.";
    const narrowed = matches.length < this.#columns.length;
    byId("columns-all").textContent = narrowed ? `All ${whole(matches.length)} matches` : "All";
    byId("columns-none").textContent = narrowed ? "None of the matches" : "None";
    this.#showCount();
  }

  #checkBox({ index, name, dtype }) {
    const box = make("input", { type: "checkbox", checked: this.#selected.has(index), value: index });
    box.onchange = () => {
      this.#setSelected(index, box.checked);
      this.#showCount();
    };
    return make("label", { title: `${name} (${typeWord(dtype)})` }, box, make("span", {}, name), make("small", {}, typeWord(dtype)));
  }

  #showCount() {
    byId("columns-count").textContent = `${whole(this.#selected.size)} of ${whole(this.#columns.length)}`;
  }

  // --- filters and sort keys -----------------------------------------------------------------------------

  /** Add a filter or sort key and focus it; when it is removed, the focus returns to the button that added it. */
  #add(Entry, entries, name) {
    const entry = new Entry(this.#columns, (removed) => {
      entries.splice(entries.indexOf(removed), 1);
      removed.element.remove();
      byId(`add-${name}`).focus();
    });
    entries.push(entry);
    this.#touched = true;
    byId(`${name}-list`).append(entry.element);
    entry.element.firstChild.focus();
  }

  // --- the query -----------------------------------------------------------------------------------------

  #submit(onRun) {
    const problem = byId("query-error");
    showError(problem, null);
    try {
      const query = this.#read();
      this.#touched = false;
      onRun(query);
    } catch (error) {
      showError(problem, error);
    }
  }

  #read() {
    if (!this.#selected.size) throw new Error("Select at least one column.");
    const query = { filename: this.#filename, profile: this.#selected.size <= MAX_PROFILED };
    query.selectedColumns = this.#columns.map(({ index }) => index).filter((index) => this.#selected.has(index));
    const options = this.#options.read();
    if (options) query.options = options;
    if (this.#options.strict) query.strict = true;
    if (this.#filters.length) query.where = this.#filters.map((filter) => filter.read());
    if (this.#sortKeys.length) query.sort = this.#sortKeys.map((key) => key.read());
    if (byId("limit").value !== "") query.limit = Number(byId("limit").value);
    return query;
  }
}
