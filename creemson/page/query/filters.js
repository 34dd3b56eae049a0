/** The lines of the form that say which rows are kept, and in which order. */

import { ColumnChoice } from "./choice.js";
import { button, make } from "./dom.js";
import { isNumeric } from "./format.js";
import { typedValue } from "./typed.js";

const OPERATORS = {
  "==": "is", "!=": "is not", "<": "<", "<=": "≤", ">": ">", ">=": "≥", in: "is one of", not_in: "is none of",
  contains: "contains", starts_with: "starts with", is_null: "is empty", not_null: "is not empty",
};
const UNARY = ["is_null", "not_null"];
const LISTS = ["in", "not_in"];
const DIRECTIONS = { asc: "ascending", desc: "descending" };

/** One condition on the rows. */
export class Condition {
  #choice;
  #operator;
  #value = make("input", { ariaLabel: "Value" });

  /** @param {object[]} columns of the file
   *  @param {function(Condition): void} onRemove */
  constructor(columns, onRemove) {
    this.#operator = menu("Comparison", OPERATORS);
    this.#operator.addEventListener("change", () => this.#adapt());
    this.#choice = new ColumnChoice(columns, "Column", () => this.#adapt());
    this.element = make("li", {}, this.#choice.element, this.#operator, this.#value, remover("filter", () => onRemove(this)));
    this.#adapt();
  }

  /** @returns {any[]} as `where` has it */
  read() {
    const { index, dtype } = this.#choice.column;
    const operator = this.#operator.value;
    if (UNARY.includes(operator)) return [index, operator];
    const { value } = this.#value;
    if (!LISTS.includes(operator)) return [index, operator, typedValue(value, dtype)];
    return [index, operator, value.split(",").map((part) => typedValue(part.trim(), dtype))];
  }

  /** Ask for a value as this column and this comparison need it. */
  #adapt() {
    const dtype = this.#choice.column?.dtype ?? "";
    const needless = UNARY.includes(this.#operator.value);
    this.#value.hidden = this.#value.disabled = needless;
    this.#value.required = isNumeric(dtype) || dtype === "Boolean"; // empty text is a text, an empty number is none
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
    this.element = make("li", {}, this.#choice.element, this.#direction, remover("sort key", () => onRemove(this)));
  }

  /** @returns {any[]} as `sort` has it */
  read() {
    return [this.#choice.column.index, this.#direction.value];
  }
}

const menu = (ariaLabel, choices) =>
  make("select", { ariaLabel }, ...Object.entries(choices).map(([value, text]) => make("option", { value }, text)));

const remover = (what, act) => button("×", act, { ariaLabel: `Remove this ${what}`, title: "Remove", className: "quiet remove" });

function example(dtype) {
  if (dtype === "Boolean") return "true or false";
  if (dtype === "Date") return "2024-12-31";
  return "";
}
