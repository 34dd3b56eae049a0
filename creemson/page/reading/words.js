/** Says in words how a file was read. Pure functions. */

import { counted, isPresent, whole } from "../format.js";

const SIGN_NAMES = { "\t": "tab", " ": "space", "": "none" };
const FORMATS = { csv: "CSV", fixed: "fixed-width text", ndjson: "NDJSON", json: "JSON", parquet: "Parquet", arrow: "Arrow", xlsx: "Excel" };

/** Names of the signs that separate groups of digits. */
export const THOUSANDS = { ",": "comma", ".": "point", "'": "apostrophe", " ": "space", "\u202f": "narrow space", "\u00a0": "no-break space" };

/** @param {string|object} dates a pattern, or patterns by column
 *  @returns {string} the text that can be entered in the reading options */
export const describeDates = (dates) =>
  (typeof dates === "string" ? dates : Object.entries(dates).map((pair) => pair.join("=")).join("; "));

/** @param {string} sign delimiter or quote
 *  @returns {string} a visible name, which can also be entered in the reading options */
export const signName = (sign) => SIGN_NAMES[sign] ?? sign;

/** What the tables of a file are called from which `sheet` chooses.
 *  @param {object} reading
 *  @returns {string} */
export const placeNoun = ({ format, member }) => (isPresent(member) ? "table" : format === "json" ? "array" : "sheet");

/** @param {string} text
 *  @returns {string} */
export const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @param {object} reading
 *  @returns {string} how a file was read */
export function describeReading(reading) {
  const { format, compression, encoding, delimiter, quote, header, skip_rows: skipped, decimal, null_values: nulls } = reading;
  const { trailing_delimiter: trailing, footer_rows: footer, sheet, sheets, member, thousands, date_format: dates, comment } = reading;
  return [
    FORMATS[format] ?? format,
    compression && `compressed with ${compression}`,
    isPresent(member) && `${member} in the archive${sheets?.length > 1 ? ` (one of ${whole(sheets.length)} tables)` : ""}`,
    !isPresent(member) && isPresent(sheet) && `${placeNoun(reading)} ${sheet}${sheets?.length > 1 ? ` (one of ${whole(sheets.length)})` : ""}`,
    encoding,
    isPresent(delimiter) && `delimiter ${signName(delimiter)}`,
    trailing && "a delimiter ends every row",
    isPresent(quote) && quote !== '"' && `quote ${signName(quote)}`,
    isPresent(header) && (header ? counted(header, "header row") : "no header"),
    skipped ? `${counted(skipped, "row")} skipped` : null,
    footer ? `${counted(footer, "row")} below the table left out` : null,
    decimal === "," && "decimal comma",
    isPresent(thousands) && `thousands ${THOUSANDS[thousands] ?? thousands}`,
    isPresent(dates) && `dates ${describeDates(dates)}`,
    comment && `comments after ${signName(comment)}`,
    nulls?.length ? `words for a missing value: ${nulls.join(", ")}` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}
