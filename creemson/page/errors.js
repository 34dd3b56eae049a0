/** Says in plain words what an error of the server says to programmers. Pure functions. */

import { typeWord } from "./table/types.js";

const PLAIN = [
  [/^The (message is not a valid \w+|request does not fit the file): /, ""],
  [/\$\.[\w.[\]]+: /g, ""], // where it is in the request
  [/^[a-z]\w+ compares text with text; /, "Only texts can be compared so: "],
  [/(?<= is )[A-Z]\w*(\(.*?\)+)?(?=[,.;]|$)/g, (type) => (typeWord(type) === "other" ? type : `of type ${typeWord(type)}`)],
  [/a strftime pattern/g, "a date format"],
  [/use those of strftime, such as/g, "use one such as"],
  ["and the request is strict", "and nothing may be repaired"],
  ["set options for how to read it, or leave out strict", "change its reading options, or switch off “Strict”"],
  [" Choose another name, or allow overwriting it.", ""],
  [" Write it in quotes.", ""],
  [/, got \[\]\.$/, "."],
];

/** @param {string} text of an error
 *  @returns {string} */
export function plainWords(text) {
  const plain = PLAIN.reduce((words, [from, to]) => words.replace(from, to), text);
  return plain.charAt(0).toUpperCase() + plain.slice(1);
}
