/** Turns a view into requests. Pure functions. */

import { computedNames } from "./words.js";

/** @param {import("./address.js").View} view
 *  @returns {boolean} whether its rows are computed, so that only a job can make them */
export const isComputed = ({ group, aggregate }) => group.length > 0 || aggregate.length > 0;

/** The rows that the grid shows: options of `client.rows`. A computed view has its conditions in its job.
 *  @param {import("./address.js").View} view
 *  @returns {object} */
export function rowsOf(view) {
  const { options, where, find, sort } = view;
  const order = sort.length ? sort : null;
  return isComputed(view) ? { find, sort: order } : { options, where: where.length ? where : null, find, sort: order };
}

/** The job that profiles the whole file. Downloads of the file as it is are this job, too.
 *  @param {import("./address.js").View} view
 *  @returns {object} fields of a `process` message */
export const surveyOf = ({ file, options }) => ({ filename: file, ...(options && { options }), profile: true });

/** The job that computes the rows of a view with groups, without their order and number.
 *  @param {import("./address.js").View} view
 *  @returns {object} fields of a `process` message */
export function groupsOf(view) {
  const { file, options, strict, where, group, aggregate } = view;
  const names = computedNames(view);
  // A column is counted without its missing values, rows are all.
  const named = aggregate.map(([column, what], index) => (what === "rows" ? ["*", "count", names[index]] : [column, what, names[index]]));
  return {
    filename: file,
    profile: true,
    ...(options && { options }),
    ...(strict && { strict }),
    ...(where.length && { where }),
    ...(group.length && { group_by: group }),
    ...(named.length && { aggregate: named }),
  };
}

/** The job whose output has what is shown, for downloads.
 *  @param {import("./address.js").View} view
 *  @param {string[]} names of the columns of the rows
 *  @returns {object} fields of a `process` message */
export function processOf(view, names) {
  const base = isComputed(view) ? groupsOf(view) : { ...surveyOf(view), ...(view.strict && { strict: true }), ...(view.where.length && { where: view.where }) };
  const shown = shownOf(view, names);
  const selected = shown.filter((name) => view.selected.includes(name));
  const kept = selected.length ? selected : shown;
  const rename = Object.fromEntries(Object.entries(view.rename).filter(([old]) => kept.includes(old)));
  return {
    ...base,
    ...(kept.length < names.length && { selectedColumns: kept }),
    ...(view.sort.length && { sort: view.sort }),
    ...(view.limit !== null && { limit: view.limit }),
    ...(Object.keys(rename).length && { rename }),
  };
}

/** @param {import("./address.js").View} view
 *  @param {string[]} names of all columns of the rows
 *  @returns {string[]} those that are shown */
export function shownOf({ hidden }, names) {
  const without = new Set(hidden);
  return names.filter((name) => !without.has(name));
}

/** Conditions with which only rows of these values of a column are kept, or only the others.
 *  @param {any[][]} where
 *  @param {string} column
 *  @param {any} value null for missing ones
 *  @param {boolean} keep
 *  @returns {any[][]} with the value added, or without it if it was there */
export function toggledValue(where, column, value, keep) {
  if (value === null) {
    const condition = [column, keep ? "is_null" : "not_null"];
    const others = where.filter(([name, operator]) => name !== column || !["is_null", "not_null"].includes(operator));
    return where.some(([name, operator]) => name === column && operator === condition[1]) ? others : [...others, condition];
  }
  const operator = keep ? "in" : "not_in";
  const at = where.findIndex(([name, own]) => name === column && own === operator);
  if (at < 0) return [...where.filter(([name, own]) => name !== column || !["in", "not_in"].includes(own)), [column, operator, [value]]];
  const values = where[at][2];
  const now = values.includes(value) ? values.filter((one) => one !== value) : [...values, value];
  return now.length ? where.with(at, [column, operator, now]) : where.filter((_, index) => index !== at);
}
