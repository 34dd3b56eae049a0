/** The cells of a grid. Numbers stand with their points below each other. */

import { make } from "../dom.js";
import { exactJson, isPresent } from "../format.js";

const MAX_DIGITS = 12; // of a computed fraction

/** A cell as text. A JavaScript number holds integers of 53 bits, a column of 64: rounded ones are marked with ≈.
 *  @param {any} value
 *  @returns {string|null} null if there is no value */
export function cellText(value) {
  if (!isPresent(value)) return null;
  if (typeof value === "object") return exactJson(value);
  return Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 2 ** 64 ? `≈ ${value}` : String(value);
}

/** @param {string} text of a number
 *  @param {string} decimal sign
 *  @returns {number} characters from the sign on; 0 for an integer */
const fraction = (text, decimal) => (text.includes(decimal) ? text.length - text.lastIndexOf(decimal) : 0);

/** A computed number: without the digits that the computer's arithmetic adds (0.1 + 0.2), with the sign of the file.
 *  @param {any} value
 *  @param {string} decimal sign
 *  @returns {string|null} */
export function computedText(value, decimal) {
  const text = cellText(value);
  const isLong = text !== null && text.includes(".") && text.length > MAX_DIGITS;
  return (isLong ? String(Number(Number(text).toPrecision(MAX_DIGITS))) : text)?.replace(".", decimal) ?? null;
}

/** @param {any[][]|undefined} rows those that are drawn
 *  @param {function(any[]): string|null} textOf returns the cell of a row
 *  @param {string} decimal sign
 *  @returns {number} characters of the longest fraction, with its sign */
export const longestFraction = (rows, textOf, decimal) =>
  rows.reduce((most, row) => Math.max(most, row ? fraction(textOf(row) ?? "", decimal) : 0), 0);

/**
 * @param {any[]|undefined} row undefined until it has arrived
 * @param {number} index of the column
 * @param {{numeric: boolean, decimal: string, places: number, textOf: function(any): string|null}} style `places`: characters
 *   for the fraction
 * @returns {HTMLElement}
 */
export function makeCell(row, index, { numeric, decimal, places, textOf }) {
  if (!row) return make("td", { className: "loading" }, "…");
  const text = textOf(row[index]);
  if (text === null) return make("td", { className: "missing", title: "missing" });
  if (!numeric) return make("td", { title: text }, text);
  const own = fraction(text, decimal);
  const cell = make("td", { className: "number", title: text }, own ? text.slice(0, -own) : text);
  if (places) {
    const rest = make("span", { className: "fraction" }, own ? text.slice(-own) : "");
    rest.style.width = `${places}ch`;
    cell.append(rest);
  }
  return cell;
}
