/** Numbers as people read them. */

const UNITS = ["kB", "MB", "GB", "TB"];

/** @param {number} count
 *  @returns {string} with separators for thousands */
export const whole = (count) => Math.round(count).toLocaleString("en");

/** @param {number} count bytes
 *  @returns {string} e.g. "12.3 MB" */
export function bytes(count) {
  if (count < 1000) return `${count} B`;
  const power = Math.min(UNITS.length, Math.floor(Math.log10(count) / 3));
  return `${(count / 1000 ** power).toPrecision(3)} ${UNITS[power - 1]}`;
}

/** @param {number} count seconds
 *  @returns {string} e.g. "4 s", "2 min 5 s" */
export function seconds(count) {
  if (count < 10) return `${count.toFixed(1)} s`;
  const [minutes, rest] = [Math.floor(count / 60), Math.round(count % 60)];
  return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
}

/** @param {number} time seconds since 1970
 *  @returns {string} day and time of here */
export const moment = (time) =>
  new Date(time * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @param {string} dtype in polars' words
 *  @returns {string} without its parameters */
export const shortType = (dtype) => dtype.replace(/\(.*$/s, "");

/** @param {string} dtype in polars' words
 *  @returns {boolean} whether its values are numbers */
export const isNumeric = (dtype) => /^(U?Int|Float|Decimal)/.test(dtype);
