/** A field in which one of a file's columns is chosen. */

import { byId, make } from "./dom.js";

const FEW = 300; // columns that a menu can hold; of more, the names that fit what is typed are offered
const OFFERED = 50;

/** The choice of a column: a menu, or with thousands of columns a field with suggestions. */
export class ColumnChoice {
  #columns;

  /** @param {{index: number, name: string, dtype: string}[]} columns
   *  @param {string} label for those who cannot see where it stands
   *  @param {function(): void} onChange */
  constructor(columns, label, onChange) {
    this.#columns = columns;
    this.element = columns.length <= FEW ? this.#menu(label) : this.#field(label);
    this.element.classList.add("column");
    this.element.addEventListener("change", onChange);
  }

  /** @returns {{index: number, name: string, dtype: string}|undefined} undefined while nothing that exists is chosen */
  get column() {
    const { tagName, selectedIndex, value } = this.element;
    return tagName === "SELECT" ? this.#columns[selectedIndex] : this.#columns.find(({ name }) => name === value);
  }

  #menu(ariaLabel) {
    return make("select", { ariaLabel }, ...this.#columns.map(({ name }) => make("option", {}, name)));
  }

  #field(ariaLabel) {
    const field = make("input", { ariaLabel, required: true, placeholder: "Column" });
    field.setAttribute("list", "column-names");
    const offer = () => {
      const words = field.value.toLowerCase();
      const found = this.#columns.filter(({ name }) => name.toLowerCase().includes(words)).slice(0, OFFERED);
      byId("column-names").replaceChildren(...found.map(({ name }) => make("option", { value: name })));
      field.setCustomValidity(field.value && !this.column ? "No column has this name." : "");
    };
    field.addEventListener("focus", offer);
    field.addEventListener("input", offer);
    return field;
  }
}
