/** Says in plain words what a view asks: for chips, titles and the names of its columns. Pure functions. */

import { counted, exactJson } from "../format.js";

/** What can be computed for each group, with its name. */
export const FUNCTIONS = {
  sum: "sum", mean: "average", min: "smallest", max: "largest", median: "median", count: "count", n_unique: "different values",
};

const COMPARISONS = {
  "==": "is", "!=": "is not", "<": "<", "<=": "≤", ">": ">", ">=": "≥", icontains: "contains", istarts_with: "starts with", iends_with: "ends with",
  contains: "contains (same case)", starts_with: "starts with (same case)",
};
const UNARY = { is_null: "is missing", not_null: "is there" };
const MAX_VALUES = 3; // named in a chip

/** @param {import("./address.js").View} view
 *  @returns {string[]} names of the computed columns; none is that of another column of the groups */
export function computedNames({ group, aggregate }) {
  const taken = new Set(group);
  return aggregate.map(([column, what]) => {
    let name = what === "rows" ? "rows" : `${FUNCTIONS[what]} of ${column}`;
    while (taken.has(name)) name += " (computed)";
    taken.add(name);
    return name;
  });
}

/** @param {import("./address.js").View} view
 *  @param {string} name of a column
 *  @returns {string} what it is called in the view; a column may have the name of a property of each object */
export const calledIn = ({ rename }, name) => (Object.hasOwn(rename, name) ? rename[name] : name);

/** @param {any[]} condition one of `where`
 *  @returns {string} */
export function conditionWords([column, operator, value]) {
  if (operator in UNARY) return `${column} ${UNARY[operator]}`;
  if (operator === "in") return `${column} is ${valueList(value, "or")}`;
  if (operator === "not_in") return `${column} is not ${valueList(value, "or")}`;
  return `${column} ${COMPARISONS[operator]} ${valueWords(value)}`;
}

/** @param {any} value
 *  @returns {boolean} whether it is a condition that this page can say in words */
export function isCondition(value) {
  const [column, operator, given] = Array.isArray(value) ? value : [];
  if (typeof column !== "string") return false;
  if (["in", "not_in"].includes(operator)) return Array.isArray(given);
  return Object.hasOwn(UNARY, operator) || (Object.hasOwn(COMPARISONS, operator) && given !== undefined && given !== null);
}

/** @param {any} what
 *  @returns {boolean} whether it can be computed of a group */
export const isComputable = (what) => what === "rows" || Object.hasOwn(FUNCTIONS, what);

/** @param {any} value
 *  @returns {string} */
export function valueWords(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return value === "" ? "(empty text)" : typeof value === "object" ? exactJson(value) : String(value);
}

function valueList(values, last) {
  const named = values.slice(0, MAX_VALUES).map(valueWords);
  if (values.length > MAX_VALUES) return `${named.join(", ")} ${last} ${values.length - MAX_VALUES} others`;
  return named.length < 2 ? (named[0] ?? "nothing") : `${named.slice(0, -1).join(", ")} ${last} ${named.at(-1)}`;
}

/** @param {import("./address.js").View} view
 *  @returns {string} what it asks, apart from the file; empty if nothing */
export const viewWords = (view) => parts(view).map(({ text }) => text).join(", ");

/**
 * The parts of a view that can be taken away again.
 *
 * @param {import("./address.js").View} view
 * @returns {{text: string, change: object}[]} `change`: the fields of the view without this part
 */
export function parts(view) {
  const { strict, where, find, sort, group, aggregate, limit, hidden, selected, rename } = view;
  const without = (list, index) => list.filter((_, at) => at !== index);
  const called = (name) => calledIn(view, name);
  const found = where.map(([column, ...rest], index) => ({ text: conditionWords([called(column), ...rest]), change: { where: without(where, index) } }));
  if (find) found.push({ text: `has “${find}”`, change: { find: "" } });
  if (group.length || aggregate.length) {
    const computed = computedNames(view).join(", ");
    found.push({ text: `${computed || "groups"}${group.length ? ` for each ${group.map(called).join(", ")}` : ""}`, change: { group: [], aggregate: [], sort: [] } });
  }
  sort.forEach(([column, direction], index) => {
    found.push({ text: `sorted by ${called(column)} ${direction === "desc" ? "↓" : "↑"}`, change: { sort: without(sort, index) } });
  });
  if (limit !== null) found.push({ text: `first ${counted(limit, "row")}`, change: { limit: null } });
  if (selected.length) found.push({ text: `${counted(selected.length, "column")} selected`, change: { selected: [] } });
  if (hidden.length) found.push({ text: `hidden: ${hidden.length > 2 ? `${hidden.length} columns` : hidden.map(called).join(", ")}`, change: { hidden: [] } });
  if (strict) found.push({ text: "nothing may be repaired", change: { strict: false } });
  for (const [old, name] of Object.entries(rename)) {
    const { [old]: _, ...others } = rename;
    found.push({ text: `${old} is called ${name}`, change: { rename: others } });
  }
  return found;
}
