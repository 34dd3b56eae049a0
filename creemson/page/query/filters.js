/** The filters and sort keys of the query form. */

import { button, make } from "../dom.js";
import { isNumeric } from "../format.js";
import { ColumnChoice } from "./column_choice.js";
import { parseValue } from "./values.js";

const OPERATORS = {
  "==": "is", "!=": "is not", "<": "<", "<=": "≤", ">": ">", ">=": "≥", in: "is one of", not_in: "is none of",
  contains: "contains", starts_with: "starts with", is_null: "is missing", not_null: "is there",
};
const UNARY = ["is_null", "not_null"];
const LISTS = ["in", "not_in"];
const DIRECTIONS = { asc: "ascending", desc: "descending" };

/** One condition that the rows of the result meet. */
export class Filter {
  #choice;
  #operator;
  #value = make("input", { ariaLabel: "Value" });

  /** @param {object[]} columns of the file
   *  @param {function(Filter): void} onRemove */
  constructor(columns, onRemove) {
    this.#operator = menu("Comparison", OPERATORS);
    this.#operator.addEventListener("change", () => this.#updateField());
    this.#choice = new ColumnChoice(columns, "Column", () => this.#updateField());
    this.element = make("li", {}, this.#choice.element, this.#operator, this.#value, removeButton("filter", () => onRemove(this)));
    this.#updateField();
  }

  /** @returns {any[]} an entry of `where` */
  read() {
    const { index, dtype } = this.#choice.column;
    const operator = this.#operator.value;
    if (UNARY.includes(operator)) return [index, operator];
    const { value } = this.#value;
    if (!LISTS.includes(operator)) return [index, operator, parseValue(value, dtype)];
    return [index, operator, value.split(",").map((part) => parseValue(part.trim(), dtype))];
  }

  /** Adapt the value field to the column's type and to the operator. */
  #updateField() {
    const dtype = this.#choice.column?.dtype ?? "";
    const unused = UNARY.includes(this.#operator.value);
    this.#value.hidden = this.#value.disabled = unused;
    this.#value.required = isNumeric(dtype) || dtype === "Boolean"; // an empty string is valid text, but not a valid number
    this.#value.placeholder = LISTS.includes(this.#operator.value) ? "a, b, c" : example(dtype);
  }
}

/** One column to sort by. */
export class SortKey {
  #choice;
  #direction = menu("Direction", DIRECTIONS);

  /** @param {object[]} columns of the file
   *  @param {function(SortKey): void} onRemove */
  constructor(columns, onRemove) {
    this.#choice = new ColumnChoice(columns, "Column to sort by", () => {});
    this.element = make("li", {}, this.#choice.element, this.#direction, removeButton("sort key", () => onRemove(this)));
  }

  /** @returns {any[]} an entry of `sort` */
  read() {
    return [this.#choice.column.index, this.#direction.value];
  }
}

const menu = (ariaLabel, choices) =>
  make("select", { ariaLabel }, ...Object.entries(choices).map(([value, text]) => make("option", { value }, text)));

const removeButton = (noun, onclick) =>
  button("×", onclick, { ariaLabel: `Remove this ${noun}`, title: "Remove", className: "quiet remove" });

function example(dtype) {
  if (dtype === "Boolean") return "true or false";
  if (dtype === "Date") return "2024-12-31";
  if (dtype.startsWith("Duration")) return "27:15:00";
  return "";
}
