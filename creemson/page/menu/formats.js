/** The ways in which a column of a text file can be read, in words, and the reading options that they are. Pure functions. */

const CHOICES = {
  "": "as detected",
  string: "text (keeps 00123)",
  float64: "number",
  int64: "whole number",
  boolean: "yes or no",
  "%d/%m/%Y": "date: day first, 31/12/2024",
  "%m/%d/%Y": "date: month first, 12/31/2024",
  "%d.%m.%Y": "date: 31.12.2024",
  "%Y-%m-%d": "date: 2024-12-31",
  "%d %b %Y": "date: 31 Dec 2024",
  "1.234,5": "numbers like 1.234,5 (all columns)",
  "1,234.5": "numbers like 1,234.5 (all columns)",
};
const NUMBERS = { "1.234,5": { decimal: ",", thousands: "." }, "1,234.5": { decimal: ".", thousands: "," } };

/** @returns {[string, string][]} values and words of a menu */
export const formatChoices = () => Object.entries(CHOICES);

/** @param {object|null} options how the file is read
 *  @param {string} column
 *  @returns {string} the choice that was made for a column; empty for none */
export function formatOf(options, column) {
  const chosen = [options?.types, options?.date_format].find((by) => typeof by === "object" && by !== null && Object.hasOwn(by, column));
  return chosen?.[column] ?? "";
}

/** @param {object|null} options how the file is read
 *  @param {string} column
 *  @param {string} choice one of {@link formatChoices}
 *  @returns {object|null} options with the choice */
export function withFormat(options, column, choice) {
  const { types = {}, date_format: dates = {}, ...others } = options ?? {};
  const { [column]: _, ...otherTypes } = types;
  const { [column]: __, ...otherDates } = typeof dates === "string" ? {} : dates;
  const isDate = choice.startsWith("%");
  const numbers = NUMBERS[choice];
  const allTypes = choice && !isDate && !numbers ? { ...otherTypes, [column]: choice } : otherTypes;
  const allDates = isDate ? { ...otherDates, [column]: choice } : typeof dates === "string" ? dates : otherDates;
  const made = {
    ...others,
    ...numbers,
    ...(Object.keys(allTypes).length && { types: allTypes }),
    ...((typeof allDates === "string" || Object.keys(allDates).length) && { date_format: allDates }),
  };
  return Object.keys(made).length ? made : null;
}
