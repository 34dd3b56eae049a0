/** A control for choosing one of a file's columns. */

import { byId, make } from "../dom.js";

const MAX_MENU = 300; // columns in a menu; with more, a text field suggests matching names
const MAX_SUGGESTIONS = 50;

/** @param {{name: string}[]} columns
 *  @param {string} text
 *  @returns {object[]} the columns whose names contain the text, ignoring case */
export function matchingColumns(columns, text) {
  const wanted = text.toLowerCase();
  return columns.filter(({ name }) => name.toLowerCase().includes(wanted));
}

/** The choice of a column: a menu, or a text field with suggestions if there are many columns. */
export class ColumnChoice {
  #columns;

  /** @param {{index: number, name: string, dtype: string}[]} columns
   *  @param {string} label accessible name
   *  @param {function(): void} onChange */
  constructor(columns, label, onChange) {
    this.#columns = columns;
    this.element = columns.length <= MAX_MENU ? this.#menu(label) : this.#field(label);
    this.element.classList.add("column");
    this.element.addEventListener("change", onChange);
  }

  /** @returns {{index: number, name: string, dtype: string}|undefined} undefined until an existing column is chosen */
  get column() {
    const { tagName, selectedIndex, value } = this.element;
    return tagName === "SELECT" ? this.#columns[selectedIndex] : this.#columns.find(({ name }) => name === value);
  }

  #menu(ariaLabel) {
    return make("select", { ariaLabel }, ...this.#columns.map(({ name }) => make("option", { value: name }, name)));
  }

  #field(ariaLabel) {
    const field = make("input", { ariaLabel, required: true, placeholder: "Column" });
    field.setAttribute("list", "column-names");
    const suggest = () => {
      const found = matchingColumns(this.#columns, field.value).slice(0, MAX_SUGGESTIONS);
      byId("column-names").replaceChildren(...found.map(({ name }) => make("option", { value: name }, name)));
      field.setCustomValidity(field.value && !this.column ? "No column has this name." : "");
    };
    field.addEventListener("focus", suggest);
    field.addEventListener("input", suggest);
    return field;
  }
}
