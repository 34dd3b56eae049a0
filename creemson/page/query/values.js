/** What somebody types, as the value that a column's type has in a message. */

import { isNumeric } from "./format.js";

/**
 * @param {string} text
 * @param {string} dtype of the column, in polars' words
 * @returns {number|boolean|string|object} what does not fit goes as text, and the server says why it cannot be
 */
export function typedValue(text, dtype) {
  const trimmed = text.trim();
  if (isNumeric(dtype) && trimmed !== "" && Number.isFinite(Number(trimmed))) return numeric(trimmed);
  if (dtype === "Boolean" && /^(true|false)$/i.test(trimmed)) return trimmed.toLowerCase() === "true";
  return text;
}

/** A number of JavaScript has 53 bits, a column of integers 64: where it would be another one, its digits are sent. */
function numeric(text) {
  const value = Number(text);
  const exact = !/^-?[1-9]\d*$/.test(text) || Number.isSafeInteger(value);
  if (exact) return value;
  if (JSON.rawJSON) return JSON.rawJSON(text);
  throw new Error(`This browser rounds ${text}; a newer one does not.`);
}
