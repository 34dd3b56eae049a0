/** The menu of a column: how its values are distributed, and what can be done with it. */

import { button, byId, make } from "../dom.js";
import { isNumeric, share } from "../format.js";
import { figures } from "../table/charts.js";
import { typeWord } from "../table/types.js";
import { conditionForm, isComparable } from "./condition.js";
import { formatChoices, formatOf, withFormat } from "./formats.js";
import { bars, valueList } from "./distribution.js";
import { FUNCTIONS, calledIn } from "../view/words.js";

const NARROW = 640; // px; below, the menu takes the whole width
const WIDTH = 384; // px
const MARGIN = 8; // px
const WIDEN = 48; // px

const OF_NUMBERS = ["sum", "mean", "median"];
const OF_ORDERED = ["min", "max"];
const canCompute = (what, dtype) =>
  OF_NUMBERS.includes(what) ? isNumeric(dtype) || dtype === "Boolean" : !OF_ORDERED.includes(what) || isComparable(typeWord(dtype));

const MAX_EXACT = 200; // characters of a text in a profile
const isCut = (value) => typeof value === "string" && value.length >= MAX_EXACT && value.endsWith("…");

/**
 * @typedef {object} Facts
 * @property {string} name of the column
 * @property {string} shown its name in the view
 * @property {string} dtype
 * @property {object|null} profile
 * @property {number} rows that the profile describes
 * @property {string[]} names of all columns of the file
 * @property {boolean} isComputed whether it belongs to a view with groups, which can only be sorted
 * @property {boolean} isText whether the file has texts, which can be read in another way
 * @property {string} decimal sign
 */

/** The menu; it is a dialog, so that keys and screen readers stay in it until it is closed. */
export class ColumnMenu {
  #dialog = byId("column-menu");
  #store;
  #on;
  #header = null; // where the header is which the menu is placed below

  /** @param {import("../view/store.js").Store} store
   *  @param {object} on
   *  @param {function(string): Promise<[any, number][]>} on.count returns the values of a column and how many rows have each
   *  @param {function(number, number): void} on.widen called with the number of a column and px */
  constructor(store, on) {
    this.#store = store;
    this.#on = on;
    this.#dialog.addEventListener("click", ({ target }) => target === this.#dialog && this.close());
    addEventListener("popstate", () => this.close()); // it was of another view
    new ResizeObserver(() => this.#place()).observe(this.#dialog); // its values have come
    this.#dialog.addEventListener("close", () => byId("grid").focus({ preventScroll: true }));
  }

  /** @param {Facts} facts
   *  @param {number} index of the column in the grid
   *  @param {HTMLElement} header which the menu is placed below */
  open(facts, index, header) {
    const { name, shown, dtype, profile, rows, isComputed } = facts;
    const about = [typeWord(dtype), profile?.nulls ? `${share(profile.nulls, rows)} missing` : null].filter(Boolean).join(" · ");
    const keep = (conditions) => this.#change({ where: [...this.#store.view.where, ...conditions] });
    const title = make("h3", { id: "column-menu-title" }, shown);
    this.#dialog.replaceChildren(
      make("header", {}, title, button("×", () => this.close(), { ariaLabel: "Close", className: "quiet remove" })),
      make("p", { className: "figures" }, about),
      this.#sorting(name, index),
      ...(isComputed ? [] : [this.#distribution(facts, keep), conditionForm(facts.name, facts.dtype, facts.decimal, (condition) => keep([condition])), this.#summary(facts), ...this.#reading(facts), this.#naming(facts)]),
    );
    this.#header = header?.getBoundingClientRect() ?? null;
    this.#dialog.showModal();
    this.#place();
  }

  /** Close the menu. */
  close() {
    this.#dialog.close();
  }

  #place() {
    const { style } = this.#dialog;
    if (innerWidth < NARROW || !this.#header) return (style.left = style.top = "");
    const { left, bottom } = this.#header;
    style.left = `${Math.max(MARGIN, Math.min(left, innerWidth - WIDTH - MARGIN))}px`;
    style.top = `${Math.max(MARGIN, Math.min(bottom, innerHeight - this.#dialog.offsetHeight - MARGIN))}px`;
  }

  #change(fields) {
    this.close();
    this.#store.change(fields);
  }

  // --- sections ------------------------------------------------------------------------------------------

  #sorting(name, index) {
    const { sort, hidden } = this.#store.view;
    const current = sort.find(([column]) => column === name)?.[1];
    const sorter = (text, direction) =>
      button(text, () => this.#change({ sort: current === direction ? [] : [[name, direction]] }), { ariaPressed: String(current === direction) });
    return make(
      "p",
      { className: "tools" },
      sorter("Sort ↑", "asc"),
      sorter("Sort ↓", "desc"),
      button("Hide", () => this.#change({ hidden: [...hidden, name] })),
      button("Narrower", () => this.#on.widen(index, -WIDEN)),
      button("Wider", () => this.#on.widen(index, WIDEN)),
    );
  }

  #distribution(facts, keep) {
    const { name, dtype, profile, rows } = facts;
    const place = make("div", { className: "distribution" });
    const canCompare = isComparable(typeWord(dtype));
    if (profile?.histogram && canCompare) place.append(bars(name, profile, keep)); // else it is one of lengths
    if (profile) {
      const known = figures(profile, rows).map(([label, text]) => make("div", {}, make("dt", {}, label), make("dd", {}, text)));
      place.append(make("dl", {}, ...known));
    }
    const list = make("div");
    place.append(list);
    const top = profile?.top?.some(([value]) => isCut(value)) ? null : profile?.top;
    const draw = (values) => list.replaceChildren(valueList(name, values, rows, canCompare, this.#store, () => draw(values)));
    if (top && profile.distinct <= top.length) draw([...top, ...(profile.nulls ? [[null, profile.nulls]] : [])]);
    else {
      const ask = button("Show its values", async () => {
        ask.disabled = true;
        const values = await this.#on.count(name).catch(() => null);
        if (!values) return (ask.disabled = false);
        draw(values);
        ask.remove();
        list.querySelector("button")?.focus();
      });
      if (top) draw(top);
      place.append(ask);
    }
    return place;
  }

  #summary({ name, dtype, names }) {
    const { group, aggregate, find } = this.#store.view;
    const fresh = { find: "", sort: [], hidden: [], selected: [] };
    const functions = Object.entries(FUNCTIONS).filter(([value]) => canCompute(value, dtype));
    const what = make("select", { ariaLabel: "What to compute" }, ...functions.map(([value, text]) => make("option", { value }, text)));
    if (!isNumeric(dtype)) what.value = "count";
    const others = names.filter((other) => other !== name);
    const each = make("select", { ariaLabel: "For each" }, make("option", { value: "" }, "for each …"), ...others.map((other) => make("option", { value: other }, `for each ${calledIn(this.#store.view, other)}`)));
    each.onchange = () => this.#change({ group: [each.value], aggregate: [[name, what.value]], ...fresh });
    const counted = button("Count each value", () => this.#change({ group: [...group, name], aggregate: aggregate.length ? aggregate : [[name, "rows"]], ...fresh }));
    const note = find ? [make("p", { className: "hint" }, "Groups have the rows that the filters keep, also those without the text to find.")] : [];
    return make("div", { className: "tools summary" }, what, each, counted, ...note);
  }

  #reading({ name, isText }) {
    if (!isText) return [];
    const { options } = this.#store.view;
    const current = formatOf(options, name);
    const select = make("select", {}, ...formatChoices().map(([value, text]) => make("option", { value, selected: value === current }, text)));
    // Conditions on values of another type would not fit.
    const others = this.#store.view.where.filter(([column]) => column !== name);
    select.onchange = () => this.#change({ options: withFormat(options, name, select.value), where: others });
    return [make("label", { className: "field" }, "Read as", select)];
  }

  #naming({ name, shown, names }) {
    const { view } = this.#store;
    const taken = names.filter((other) => other !== name).map((other) => calledIn(view, other));
    const field = make("input", { value: shown, ariaLabel: "Name of the column", required: true, maxLength: 200, autocomplete: "off" });
    const form = make("form", { className: "tools condition" }, field, make("button", { type: "submit", className: "quiet" }, "Rename"));
    field.oninput = () => field.setCustomValidity(taken.includes(field.value) ? "Another column has this name" : "");
    form.onsubmit = (event) => {
      event.preventDefault();
      const { [name]: _, ...others } = view.rename;
      this.#change({ rename: field.value === name ? others : { ...others, [name]: field.value } });
    };
    return form;
  }
}
