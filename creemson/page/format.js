/** Numbers as people read them. */

const UNITS = ["kB", "MB", "GB", "TB"];

/** @param {number} count
 *  @returns {string} with separators for thousands */
export const whole = (count) => Math.round(count).toLocaleString("en");

/** @param {number} count
 *  @param {string} thing
 *  @returns {string} e.g. "1 row", "2,000 rows" */
export const counted = (count, thing) => `${whole(count)} ${thing}${count === 1 ? "" : "s"}`;

/** @param {number} count bytes
 *  @returns {string} e.g. "12.3 MB" */
export function bytes(count) {
  if (count < 1000) return `${Math.round(count)} B`;
  let power = Math.min(UNITS.length, Math.floor(Math.log10(count) / 3));
  // What is rounded to three digits may have become a thousand of its unit.
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
 *  @param {number} all
 *  @returns {string} e.g. "25 %"; never "0 %" of some nor "100 %" of not all */
export function share(part, all) {
  const percent = all ? (100 * part) / all : 0;
  if (percent > 0 && percent < 1) return "under 1 %";
  if (percent < 100 && percent > 99) return "over 99 %";
  return `${Math.round(percent)} %`;
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
