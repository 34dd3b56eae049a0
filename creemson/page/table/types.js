/** Types of columns in plain words. */

const WORDS = [
  [/^(U?Int|Float|Decimal)/, "number"],
  [/^(String|Categorical|Enum|Utf8)/, "text"],
  [/^Boolean/, "yes or no"],
  [/^Datetime/, "date and time"],
  [/^Date/, "date"],
  [/^Time/, "time"],
  [/^Duration/, "duration"],
  [/^(List|Array)/, "list"],
  [/^Struct/, "record"],
  [/^Binary/, "bytes"],
  [/^Null/, "empty"],
];

/** @param {string} dtype the server's name of a data type
 *  @returns {string} what people call it */
export const typeWord = (dtype) => WORDS.find(([pattern]) => pattern.test(dtype))?.[1] ?? "other";
