/** Converts text that the user enters to the value that a column's type has in a message. */

import { exactNumber } from "../format.js";

/** How values are written, by what people call their type. */
export const EXAMPLES = { number: "1234.5", date: "2024-12-31", time: "13:45", "date and time": "2024-12-31 13:45", duration: "27:15:00" };

const TIME = /^\d{1,2}:\d\d(:\d\d(\.\d+)?)?$/;
const DURATION = /^-?\d+:\d\d(:\d\d(\.\d+)?)?$/;
const MOMENT = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$/;

/**
 * @param {string} text
 * @param {string} word what people call the type of the column
 * @param {string} decimal sign of the file
 * @returns {number|bigint|boolean|string|undefined} undefined if the text does not fit the type
 */
export function parseValue(text, word, decimal) {
  const trimmed = text.trim();
  const fits = (pattern) => (pattern.test(trimmed) ? trimmed : undefined);
  switch (word) {
    case "number":
      return numberOf(trimmed, decimal);
    case "yes or no":
      return trimmed === "true";
    case "date":
      return trimmed;
    case "time":
      return fits(TIME)?.replace(/^\d:/, "0$&");
    case "date and time":
      return Number.isNaN(Date.parse(trimmed)) ? undefined : fits(MOMENT);
    case "duration":
      return numberOf(trimmed, decimal) ?? fits(DURATION);
  }
  return text;
}

/** A number as the file writes it, also with separators of thousands; or with a decimal point. */
function numberOf(text, decimal) {
  const thousands = decimal === "," ? "." : ",";
  let plain = text.replace(/(?<=\d)[\s'’](?=\d{3})/g, "");
  if (new RegExp(`^[-+]?\\d{1,3}(\\${thousands}\\d{3})+(\\${decimal}\\d*)?$`).test(plain)) plain = plain.replaceAll(thousands, "");
  plain = plain.replace(decimal, ".");
  return plain && Number.isFinite(Number(plain)) ? exactNumber(plain) : undefined;
}
