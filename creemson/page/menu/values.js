/** Converts text that the user enters to the value that a column's type has in a message. */

import { exactNumber, isNumeric } from "../format.js";

/**
 * @param {string} text
 * @param {string} dtype polars data type of the column
 * @returns {number|bigint|boolean|string} text that does not fit the type is returned as it is: the server reports why
 *   it is invalid
 */
export function parseValue(text, dtype) {
  const trimmed = text.trim();
  if (isNumeric(dtype) && trimmed !== "" && Number.isFinite(Number(trimmed))) return exactNumber(trimmed);
  if (dtype === "Boolean" && /^(true|false)$/i.test(trimmed)) return trimmed.toLowerCase() === "true";
  return text;
}
