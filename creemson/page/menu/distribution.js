/** How the values of a column are distributed; each bar and each value filters. */

import { button, make } from "../dom.js";
import { counted, share, whole } from "../format.js";
import { plain } from "../table/charts.js";
import { toggledValue } from "../view/requests.js";
import { valueWords } from "../view/words.js";

const MAX_VALUES = 100; // listed

/** A histogram; each of its bars keeps the rows that it stands for.
 *  @param {string} name of the column
 *  @param {object} profile
 *  @param {function(any[][]): void} keep called with conditions
 *  @returns {HTMLElement} */
export function bars(name, { histogram: { edges, counts } }, keep) {
  const highest = Math.max(...counts, 1);
  const all = counts.map((count, index) => {
    const [from, to] = [edges[index], edges[index + 1]];
    const text = `${plain(from)} to ${plain(to)}: ${counted(count, "row")}`;
    const isLast = index === counts.length - 1;
    const bar = button("", () => keep([[name, ">=", from], [name, isLast ? "<=" : "<", to]]), { className: "bar-button", ariaLabel: `Keep ${text}`, title: text });
    const inner = make("i");
    inner.style.height = `${count ? Math.max(3, (100 * count) / highest) : 0}%`;
    bar.append(inner);
    return bar;
  });
  const ends = make("div", { className: "ends", ariaHidden: "true" }, make("span", {}, plain(edges[0])), make("span", {}, plain(edges.at(-1))));
  return make("div", {}, make("div", { className: "bars" }, ...all), ends);
}

/** The values with their numbers of rows; a click keeps only one, a click on its sign leaves it out.
 *  @param {string} name of the column
 *  @param {[any, number][]} values null is a missing one
 *  @param {number} rows of the file
 *  @param {boolean} isComparable whether rows can be kept by a value; else, only by whether it is missing
 *  @param {import("../view/store.js").Store} store
 *  @param {function(): void} onChange called after a filter has changed
 *  @returns {HTMLElement} */
export function valueList(name, values, rows, isComparable, store, onChange) {
  const { where } = store.view;
  const isChosen = (value, operator, unary) =>
    where.some(([column, own, list]) => column === name && (value === null ? own === unary : own === operator && list.includes(value)));
  const lines = values.slice(0, MAX_VALUES).map(([value, count]) => {
    const text = value === null ? "(missing)" : valueWords(value);
    const figures = make("small", {}, `${whole(count)} · ${share(count, rows)}`);
    if (value !== null && !isComparable) return make("li", {}, make("span", { className: "value" }, text), figures);
    const toggle = (keep) => {
      store.change({ where: toggledValue(store.view.where, name, value, keep) });
      onChange();
    };
    const kept = isChosen(value, "in", "is_null");
    const left = isChosen(value, "not_in", "not_null");
    return make(
      "li",
      {},
      button(text, () => toggle(true), { className: "value", ariaPressed: String(kept), title: `Keep only ${text}` }),
      figures,
      button("≠", () => toggle(false), { className: "quiet not", ariaPressed: String(left), ariaLabel: `Leave out ${text}`, title: `Leave out ${text}` }),
    );
  });
  const more = values.length > MAX_VALUES ? [make("li", { className: "hint" }, "Further values are not listed.")] : [];
  return make("ul", { className: "plain values", ariaLabel: "Values" }, ...lines, ...more);
}
