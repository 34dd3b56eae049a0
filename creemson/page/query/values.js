/** Converts text that the user enters to the value that a column's type has in a message. */

import { isNumeric } from "../format.js";

/**
 * @param {string} text
 * @param {string} dtype polars data type of the column
 * @returns {number|boolean|string|object} text that does not fit the type is returned as it is: the server reports why
 *   it is invalid
 */
export function parseValue(text, dtype) {
  const trimmed = text.trim();
  if (isNumeric(dtype) && trimmed !== "" && Number.isFinite(Number(trimmed))) return parseNumber(trimmed);
  if (dtype === "Boolean" && /^(true|false)$/i.test(trimmed)) return trimmed.toLowerCase() === "true";
  return text;
}

/** A JavaScript number holds integers of 53 bits, a column of 64: larger integers are sent digit by digit. */
function parseNumber(text) {
  const value = Number(text);
  const exact = !/^-?[1-9]\d*$/.test(text) || Number.isSafeInteger(value);
  if (exact) return value;
  if (JSON.rawJSON) return JSON.rawJSON(text);
  throw new Error(`This browser would round ${text}. Use a newer browser.`);
}
