/** The form that says what is to be done with a file. */

import { button, byId, make, showError } from "./dom.js";
import { isNumeric, shortType, whole } from "./format.js";

const SHOWN = 300; // check boxes at once; of 5,000 columns nobody reads more, and a search finds the others
const OPERATORS = {
  "==": "is", "!=": "is not", "<": "<", "<=": "≤", ">": ">", ">=": "≥", in: "is one of", not_in: "is none of",
  contains: "contains", starts_with: "starts with", is_null: "is empty", not_null: "is not empty",
};
const UNARY = ["is_null", "not_null"];
const LISTS = ["in", "not_in"];

/** The form; one file at a time. */
export class QueryForm {
  #filename = "";
  #columns = [];
  #selected = new Set();

  /** @param {function(object): void} onRun is given a query for `client.process` */
  constructor(onRun) {
    byId("columns-search").addEventListener("input", () => this.#showColumns());
    byId("columns-all").onclick = () => this.#select(this.#found(), true);
    byId("columns-none").onclick = () => this.#select(this.#found(), false);
    byId("add-condition").onclick = () => this.#addCondition().focus();
    byId("add-key").onclick = () => this.#addKey().focus();
    byId("query-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const query = this.#read();
      if (query) onRun(query);
    });
  }

  /** Show the columns of a file, all of them ticked.
   *  @param {string} filename
   *  @param {{index: number, name: string, dtype: string}[]} columns */
  show(filename, columns) {
    this.#filename = filename;
    this.#columns = columns;
    this.#selected = new Set(columns.map((column) => column.index));
    byId("query-name").textContent = filename;
    byId("columns-search").value = "";
    byId("conditions").replaceChildren();
    byId("keys").replaceChildren();
    byId("limit").value = "";
    showError(byId("query-error"), null);
    this.#showColumns();
    byId("query").hidden = false;
    byId("query-title").focus();
  }

  /** Put the form away if it is about this file. */
  hide(filename) {
    if (filename === this.#filename) byId("query").hidden = true;
  }

  #found() {
    const words = byId("columns-search").value.trim().toLowerCase();
    return this.#columns.filter((column) => column.name.toLowerCase().includes(words));
  }

  #select(columns, ticked) {
    for (const { index } of columns) ticked ? this.#selected.add(index) : this.#selected.delete(index);
    this.#showColumns();
  }

  #showColumns() {
    const found = this.#found();
    const boxes = found.slice(0, SHOWN).map(({ index, name, dtype }) => {
      const box = make("input", { type: "checkbox", checked: this.#selected.has(index), value: index });
      box.onchange = () => {
        box.checked ? this.#selected.add(index) : this.#selected.delete(index);
        this.#showCount();
      };
      const type = make("small", {}, shortType(dtype));
      return make("label", { title: `${name} (${dtype})` }, box, make("span", {}, name), type);
    });
    byId("columns").replaceChildren(...boxes);
    const more = byId("columns-more");
    more.hidden = found.length <= SHOWN;
    more.textContent = `${whole(found.length - SHOWN)} more are not shown; search for them. All and None hold for these, too.`;
    this.#showCount();
  }

  #showCount() {
    byId("columns-count").textContent = `${whole(this.#selected.size)} of ${whole(this.#columns.length)}`;
  }

  #columnChoice(label) {
    const options = this.#columns.map(({ index, name }) => make("option", { value: index }, name));
    return make("select", { ariaLabel: label }, ...options);
  }

  #addCondition() {
    const column = this.#columnChoice("Column");
    const choices = Object.entries(OPERATORS).map(([value, text]) => make("option", { value }, text));
    const operator = make("select", { ariaLabel: "Comparison" }, ...choices);
    const value = make("input", { ariaLabel: "Value" });
    operator.onchange = () => {
      value.hidden = UNARY.includes(operator.value);
      value.placeholder = LISTS.includes(operator.value) ? "a, b, c" : "";
    };
    this.#addTo("conditions", column, operator, value);
    return column;
  }

  #addKey() {
    const column = this.#columnChoice("Column to sort by");
    const ways = [make("option", { value: "asc" }, "ascending"), make("option", { value: "desc" }, "descending")];
    this.#addTo("keys", column, make("select", { ariaLabel: "Direction" }, ...ways));
    return column;
  }

  #addTo(list, ...fields) {
    const item = make("li", {}, ...fields, button("Remove", () => item.remove()));
    byId(list).append(item);
  }

  /** The query that the form says; null if it says none, and then why is shown. */
  #read() {
    const problem = byId("query-error");
    if (!this.#selected.size) {
      showError(problem, new Error("Tick at least one column."));
      return null;
    }
    showError(problem, null);
    const query = { filename: this.#filename, profile: true };
    query.selectedColumns = this.#columns.map(({ index }) => index).filter((index) => this.#selected.has(index));
    const where = [...byId("conditions").children].map((item) => this.#condition(...item.children));
    if (where.length) query.where = where;
    const sort = [...byId("keys").children].map(({ children: [column, way] }) => [Number(column.value), way.value]);
    if (sort.length) query.sort = sort;
    if (byId("limit").value !== "") query.limit = Number(byId("limit").value);
    return query;
  }

  #condition(column, operator, value) {
    const index = Number(column.value);
    const { dtype } = this.#columns.find((one) => one.index === index);
    if (UNARY.includes(operator.value)) return [index, operator.value];
    const typed = LISTS.includes(operator.value)
      ? value.value.split(",").map((part) => typedValue(part.trim(), dtype))
      : typedValue(value.value, dtype);
    return [index, operator.value, typed];
  }
}

/** What was typed, as the column's type has it; what does not fit goes as text, and the server says why it cannot be. */
function typedValue(text, dtype) {
  if (isNumeric(dtype) && text.trim() !== "" && Number.isFinite(Number(text))) return Number(text);
  if (dtype === "Boolean" && ["true", "false"].includes(text.trim().toLowerCase())) return text.trim().toLowerCase() === "true";
  return text;
}
