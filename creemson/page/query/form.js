/** The form that says what is to be done with a file. */

import { byId, focusUnlessBusy, make, showError } from "./dom.js";
import { shortType, whole } from "./format.js";
import { ReadingOptions } from "./options.js";
import { readingWords, showIssues } from "./reading.js";
import { Condition, SortKey } from "./refine.js";

const SHOWN = 300; // check boxes at once; of 5,000 columns nobody reads more, and a search finds the others
const PROFILED = 1000; // columns; the description of one takes half a kilobyte on the wire

/** The form; one file at a time. */
export class QueryForm {
  #filename = "";
  #columns = [];
  #selected = new Set();
  #conditions = [];
  #keys = [];
  #options = new ReadingOptions(() => this.#readAgain());
  #describe;
  #touched = false;
  #asked = 0; // times that it was asked how to read a file; only the last answer counts

  /** @param {function(object): void} onRun is given a query for `client.process`
   *  @param {function(string, object|null): Promise<object>} describe tells columns, reading and issues of a file that
   *   is read with these options */
  constructor(onRun, describe) {
    const form = byId("query-form");
    this.#describe = describe;
    byId("columns-search").addEventListener("input", () => this.#showColumns());
    byId("columns-search").addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
    byId("columns-all").onclick = () => this.#select(this.#found(), true);
    byId("columns-none").onclick = () => this.#select(this.#found(), false);
    byId("add-condition").onclick = () => this.#add(Condition, this.#conditions, "condition");
    byId("add-key").onclick = () => this.#add(SortKey, this.#keys, "key");
    form.addEventListener("input", () => (this.#touched = true));
    // The browser cannot point at a fault that is folded away.
    form.addEventListener("invalid", ({ target }) => (target.closest("details").open = true), true);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(onRun);
    });
  }

  /** Whether somebody has begun to fill it in, and another file should not take its place. */
  get isBusy() {
    return this.#touched && !byId("query").hidden;
  }

  /** @returns {string} the file that it is about */
  get filename() {
    return this.#filename;
  }

  /** Show the columns of a file, all of them ticked.
   *  @param {string} filename
   *  @param {{columns: {index: number, name: string, dtype: string}[], reading: object|null, issues: object|null}} found */
  show(filename, found) {
    this.#filename = filename;
    this.#asked += 1;
    this.#touched = false;
    byId("query-name").textContent = filename;
    byId("run").disabled = false;
    this.#options.reset(found.reading);
    this.#begin(found.columns);
    this.#tellReading(found);
    byId("query").hidden = false;
    focusUnlessBusy(byId("query-title"), byId("files-section"));
  }

  /** Put the form away if it is about this file. */
  hide(filename) {
    if (filename === this.#filename) byId("query").hidden = true;
  }

  // --- how the file is read ------------------------------------------------------------------------------

  /** Options have changed: the columns may be others. */
  async #readAgain() {
    this.#asked += 1;
    const asked = this.#asked;
    byId("run").disabled = true; // it would run with the columns of before
    try {
      const found = await this.#describe(this.#filename, this.#options.read());
      if (asked !== this.#asked) return;
      this.#options.describe(found.reading);
      const names = (columns) => JSON.stringify(columns.map(({ name, dtype }) => [name, dtype]));
      if (names(found.columns) !== names(this.#columns)) this.#begin(found.columns);
      this.#tellReading(found);
      showError(byId("options-error"), null);
    } catch (error) {
      if (asked === this.#asked) showError(byId("options-error"), error);
    }
    if (asked === this.#asked) byId("run").disabled = false;
  }

  /** Begin with these columns, all of them ticked. */
  #begin(columns) {
    this.#columns = columns;
    this.#selected = new Set(columns.map(({ index }) => index));
    this.#conditions = [];
    this.#keys = [];
    byId("columns-search").value = "";
    byId("conditions").replaceChildren();
    byId("keys").replaceChildren();
    byId("limit").value = "";
    for (const name of ["query-error", "options-error"]) showError(byId(name), null);
    this.#showColumns();
  }

  #tellReading({ reading, issues }) {
    const words = readingWords(reading);
    byId("query-reading").hidden = !words;
    byId("query-reading").textContent = words && `Read as ${words}`;
    showIssues(byId("query-issues"), issues, { title: "Mended in the first 64 KiB", open: false });
  }

  // --- columns -------------------------------------------------------------------------------------------

  #found() {
    const words = byId("columns-search").value.trim().toLowerCase();
    return this.#columns.filter(({ name }) => name.toLowerCase().includes(words));
  }

  #select(columns, ticked) {
    for (const { index } of columns) this.#tick(index, ticked);
    this.#touched = true;
    this.#showColumns();
  }

  #tick(index, ticked) {
    if (ticked) this.#selected.add(index);
    else this.#selected.delete(index);
  }

  #showColumns() {
    const found = this.#found();
    byId("columns").replaceChildren(...found.slice(0, SHOWN).map((column) => this.#box(column)));
    const more = byId("columns-more");
    more.hidden = found.length > 0 && found.length <= SHOWN;
    more.textContent = found.length
      ? `${whole(found.length - SHOWN)} more are not shown; search for them. All and None hold for these, too.`
      : "No column has this in its name.";
    const narrowed = found.length < this.#columns.length;
    byId("columns-all").textContent = narrowed ? `All ${whole(found.length)} found` : "All";
    byId("columns-none").textContent = narrowed ? "None of them" : "None";
    this.#showCount();
  }

  #box({ index, name, dtype }) {
    const box = make("input", { type: "checkbox", checked: this.#selected.has(index), value: index });
    box.onchange = () => {
      this.#tick(index, box.checked);
      this.#showCount();
    };
    return make("label", { title: `${name} (${dtype})` }, box, make("span", {}, name), make("small", {}, shortType(dtype)));
  }

  #showCount() {
    byId("columns-count").textContent = `${whole(this.#selected.size)} of ${whole(this.#columns.length)}`;
  }

  // --- filters and sort keys -----------------------------------------------------------------------------

  /** Add a line, with the focus in it; when it is removed, the focus goes back to the button that made it. */
  #add(Line, lines, name) {
    const line = new Line(this.#columns, (removed) => {
      lines.splice(lines.indexOf(removed), 1);
      removed.element.remove();
      byId(`add-${name}`).focus();
    });
    lines.push(line);
    this.#touched = true;
    byId(`${name}s`).append(line.element);
    line.element.firstChild.focus();
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
    if (!this.#selected.size) throw new Error("Tick at least one column.");
    const query = { filename: this.#filename, profile: this.#selected.size <= PROFILED };
    query.selectedColumns = this.#columns.map(({ index }) => index).filter((index) => this.#selected.has(index));
    const options = this.#options.read();
    if (options) query.options = options;
    if (this.#options.strict) query.strict = true;
    if (this.#conditions.length) query.where = this.#conditions.map((condition) => condition.read());
    if (this.#keys.length) query.sort = this.#keys.map((key) => key.read());
    if (byId("limit").value !== "") query.limit = Number(byId("limit").value);
    return query;
  }
}
