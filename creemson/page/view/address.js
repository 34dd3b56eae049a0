/**
 * What is shown, as the page's address: reload, back, bookmarks and sent links show the same view. Fields without a
 * value are left out; names of columns are used instead of their numbers, so that people can read the address.
 */

import { exactJson, parseExactly } from "../format.js";
import { isCondition, isComputable } from "./words.js";

/**
 * @typedef {object} View
 * @property {string|null} file an uploaded file, or the output of a job; null if none is open
 * @property {object|null} options how to read the file, where that is not detected
 * @property {boolean} strict whether malformed data is an error of a job, instead of being repaired
 * @property {any[][]} where conditions, as in a `process` message
 * @property {string} find text to find in any column
 * @property {string[][]} sort columns, each with "asc" or "desc"
 * @property {string[]} group columns to group by
 * @property {string[][]} aggregate columns, each with what to compute of it for each group
 * @property {number|null} limit rows
 * @property {string[]} hidden columns
 * @property {string[]} selected columns: only these are downloaded; empty for all
 * @property {Object<string, string>} rename new names of columns
 */

/** @type {View} */
export const NOTHING = Object.freeze({
  file: null, options: null, strict: false, where: [], find: "", sort: [], group: [], aggregate: [], limit: null, hidden: [], selected: [], rename: {},
});
const TEXTS = ["file", "find"]; // the other fields are JSON
const isText = (value) => typeof value === "string";
const ELEMENTS = { // what is an element of each list
  where: isCondition,
  sort: (key) => Array.isArray(key) && isText(key[0]) && ["asc", "desc"].includes(key[1]),
  aggregate: (one) => Array.isArray(one) && isText(one[0]) && isComputable(one[1]),
  group: isText, hidden: isText, selected: isText,
};

/** @param {View} view
 *  @returns {string} with its `#`; empty if nothing is shown */
export function toHash(view) {
  if (view.file === null) return "";
  const fields = new URLSearchParams();
  for (const [name, nothing] of Object.entries(NOTHING)) {
    const text = TEXTS.includes(name) ? view[name] : exactJson(view[name]);
    if (text !== (TEXTS.includes(name) ? nothing : JSON.stringify(nothing))) fields.set(name, text);
  }
  return `#${fields}`;
}

/** @param {string} hash of an address; what is malformed in it is ignored
 *  @returns {View} */
export function fromHash(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const view = { ...NOTHING };
  for (const [name, nothing] of Object.entries(NOTHING)) {
    if (!fields.has(name)) continue;
    const value = TEXTS.includes(name) ? fields.get(name) : parsed(fields.get(name));
    if (name === "limit" ? Number.isSafeInteger(value) && value >= 0 : TEXTS.includes(name) || isLike(value, nothing)) {
      view[name] = name in ELEMENTS ? value.filter(ELEMENTS[name]) : value;
    }
  }
  return view.file ? view : NOTHING;
}

function parsed(text) {
  try {
    return parseExactly(text);
  } catch {
    return undefined;
  }
}

function isLike(value, nothing) {
  if (nothing === null) return isRecord(value);
  if (isRecord(nothing)) return isRecord(value) && Object.values(value).every(isText);
  return Array.isArray(nothing) ? Array.isArray(value) : typeof value === typeof nothing;
}

const isRecord = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
