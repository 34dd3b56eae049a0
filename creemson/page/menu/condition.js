/** The condition that somebody writes in the menu of a column. */

import { make } from "../dom.js";
import { typeWord } from "../table/types.js";
import { EXAMPLES, parseValue } from "./values.js";

const MAX_TEXT = 1000; // characters that are compared without regard to case

const EQUAL = { "==": "is", "!=": "is not" };
const ORDER = { ...EQUAL, "<": "less than", "<=": "at most", ">": "more than", ">=": "at least" };
const UNARY = { is_null: "is missing", not_null: "is there" };
const COMPARISONS = { // by what people call the type; others can only be missing
  text: { icontains: "contains", ...EQUAL, istarts_with: "starts with", iends_with: "ends with", contains: "contains (same case)" },
  "yes or no": EQUAL, number: ORDER, date: ORDER, "date and time": ORDER, time: ORDER, duration: ORDER,
};

/** @param {string} word what people call the type of a column
 *  @returns {boolean} whether its values can be compared, not only be missing */
export const isComparable = (word) => word in COMPARISONS;

const choicesOf = (words) => Object.entries(words).map(([value, text]) => make("option", { value }, text));

/** @param {string} name of the column
 *  @param {string} dtype
 *  @param {string} decimal sign of the file
 *  @param {function(any[]): void} keep called with the condition, whose value fits the type
 *  @returns {HTMLElement} */
export function conditionForm(name, dtype, decimal, keep) {
  const word = typeWord(dtype);
  const operator = make("select", { ariaLabel: "Comparison" }, ...choicesOf({ ...COMPARISONS[word], ...UNARY }));
  const label = { ariaLabel: "Value" };
  const value =
    word === "yes or no"
      ? make("select", label, ...choicesOf({ true: "yes", false: "no" }))
      : make("input", { ...label, type: word === "date" ? "date" : "text", placeholder: word === "number" ? "" : (EXAMPLES[word] ?? ""), autocomplete: "off", maxLength: MAX_TEXT });
  operator.onchange = () => {
    value.hidden = value.disabled = operator.value in UNARY;
    value.required = word !== "text" || !(operator.value in EQUAL);
  };
  operator.onchange();
  value.oninput = () => value.setCustomValidity("");
  const form = make("form", { className: "tools condition" }, operator, value, make("button", { type: "submit", className: "quiet" }, "Filter"));
  form.onsubmit = (event) => {
    event.preventDefault();
    if (operator.value in UNARY) return keep([name, operator.value]);
    const found = parseValue(value.value, word, decimal);
    value.setCustomValidity(found === undefined ? `Write a ${word} such as ${EXAMPLES[word].replace(".", decimal)}` : "");
    if (value.reportValidity()) keep([name, operator.value, found]);
  };
  return form;
}
