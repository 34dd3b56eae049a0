/** Formats numbers, times and types for display. */

const UNITS = ["kB", "MB", "GB", "TB"];

/** @param {any} value
 *  @returns {boolean} whether an optional field of a message has a value */
export const isPresent = (value) => value !== null && value !== undefined;

// The same list as in creemson/display/text.py, which explains it.
const INVISIBLE = new RegExp(
  "[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f" +
    "\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}]" +
    "|(?<![^\\u0000-\\u007f])[\\u200c\\u200d]|[\\u200c\\u200d](?![^\\u0000-\\u007f])",
  "gu",
);

/** Characters that nobody sees as their codes: names and cells come from strangers, and may be shown backwards.
 *  @param {string} text
 *  @returns {string} the text to show; never to send */
export const visible = (text) => String(text).replace(INVISIBLE, (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, "0")}`);

/** @param {number} count
 *  @returns {string} rounded, with thousands separators */
export const whole = (count) => Math.round(count).toLocaleString("en");

/** @param {number} count
 *  @param {string} noun singular
 *  @returns {string} e.g. "1 row", "2,000 rows" */
export const counted = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;

const EXCEL = { rows: 1_048_575, columns: 16_384 }; // of a sheet, without the header row

/** @param {{rows: number, columns: any[]}} table
 *  @returns {string|null} what a sheet of Excel has at most, if the table has more */
export const exceededInExcel = ({ rows, columns }) =>
  rows > EXCEL.rows || columns.length > EXCEL.columns ? `${whole(EXCEL.rows)} rows and ${whole(EXCEL.columns)} columns` : null;

/** @param {number} count bytes
 *  @returns {string} e.g. "12.3 MB" */
export function bytes(count) {
  if (count < 1000) return `${Math.round(count)} B`;
  let power = Math.min(UNITS.length, Math.floor(Math.log10(count) / 3));
  // Rounding to three digits can give 1000 of a unit; use the next unit then.
  if (power < UNITS.length && Number((count / 1000 ** power).toPrecision(3)) === 1000) power += 1;
  return `${(count / 1000 ** power).toPrecision(3)} ${UNITS[power - 1]}`;
}

/** @param {number} count seconds
 *  @returns {string} e.g. "4.2 s", "2 min 5 s", "3 h 10 min" */
export function seconds(count) {
  if (count < 9.95) return `${count.toFixed(1)} s`;
  const all = Math.round(count);
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  return `${Math.floor(all / 3600)} h ${Math.floor((all % 3600) / 60)} min`;
}

/** @param {number} part
 *  @param {number} total
 *  @returns {string} e.g. "25 %"; "0 %" and "100 %" only if exact */
export function share(part, total) {
  const percent = total ? (100 * part) / total : 0;
  if (percent > 0 && percent < 1) return "under 1 %";
  if (percent < 100 && percent > 99) return "over 99 %";
  return `${Math.round(percent)} %`;
}

/** @param {number} time seconds since 1970
 *  @returns {string} local date and time */
export const moment = (time) =>
  new Date(time * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @param {string} dtype polars data type
 *  @returns {boolean} whether the type is numeric */
export const isNumeric = (dtype) => /^(U?Int|Float|Decimal)/.test(dtype);

/** A JavaScript number holds integers of 53 bits, a column of 64: larger integers are BigInts, so that no digit is lost.
 *  @param {string} text of a number
 *  @returns {number|bigint} */
export const exactNumber = (text) => (/^-?[1-9]\d*$/.test(text) && !Number.isSafeInteger(Number(text)) ? BigInt(text) : Number(text));

/** @param {any} value with numbers and BigInts
 *  @returns {string} JSON with all digits; browsers without raw JSON round them */
export const exactJson = (value) =>
  JSON.stringify(value, (_, part) => (typeof part === "bigint" ? (JSON.rawJSON?.(String(part)) ?? Number(part)) : part));

/** @param {string} text JSON
 *  @returns {any} with BigInts where numbers would be rounded */
export const parseExactly = (text) =>
  JSON.parse(text, (_, part, context) => (typeof part === "number" && context?.source ? exactNumber(context.source) : part));
