/** Shows the profile of each column of a result: a chart, the share of nulls, figures, the most frequent values. */

import { byId, make } from "../dom.js";
import { counted, share, whole } from "../format.js";
import { typeWord } from "../table/types.js";
import { chart, figures, nullShare, plain } from "./charts.js";

const MAX_SHOWN = 300; // columns; the table header has the charts of all columns
const MAX_TOP = 5;

/** The list of column profiles; it is drawn when it is opened. */
export class Profile {
  #pending = null; // output that is not yet drawn

  constructor() {
    byId("profile").addEventListener("toggle", () => this.#draw());
  }

  /** @param {object} output `output_data` of a result */
  show(output) {
    byId("profile").hidden = !output.profile?.length;
    byId("profile-columns").replaceChildren();
    this.#pending = output.profile?.length ? output : null;
    this.#draw();
  }

  #draw() {
    if (!byId("profile").open || !this.#pending) return;
    const { profile, rows } = this.#pending;
    this.#pending = null;
    byId("profile-columns").append(...profile.slice(0, MAX_SHOWN).map((column) => card(column, rows)));
    const more = byId("profile-more");
    more.hidden = profile.length <= MAX_SHOWN;
    more.textContent = `${counted(profile.length - MAX_SHOWN, "more column")}: see the charts in the table header.`;
  }
}

function card(column, rows) {
  const title = make("h3", {}, column.column, make("small", {}, typeWord(column.dtype)));
  const nulls = make("div", { className: "nulls" }, bar(column.nulls, rows), make("span", {}, nullShare(column, rows)));
  const list = make("dl", {}, ...figures(column, rows).map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  return make("li", {}, title, nulls, ...(column.top ? [topValues(column, rows)] : histogram(column, rows)), list);
}

/** A histogram, with the values at its ends. */
function histogram(column, rows) {
  const image = chart(column, rows);
  if (!image) return [];
  const { edges } = column.histogram;
  const ends = make("div", { className: "ends", ariaHidden: "true" }, make("span", {}, plain(edges[0])), make("span", {}, plain(edges.at(-1))));
  return [image, ends];
}

/** The most frequent values, each with a bar. */
function topValues({ top }, rows) {
  const lines = top.slice(0, MAX_TOP).map(([value, count]) => {
    const text = value === "" ? "(empty string)" : String(value);
    const frequency = `${whole(count)} · ${share(count, rows)}`;
    return make("li", {}, bar(count, rows), make("span", { title: text }, text), make("small", {}, frequency));
  });
  return make("ol", { className: "plain", ariaLabel: "Most frequent values" }, ...lines);
}

/** A bar for a share; hidden from screen readers, because text beside it says the same. */
function bar(part, total) {
  const inner = make("i");
  inner.style.width = total ? `${(100 * part) / total}%` : "0";
  return make("b", { className: "bar", ariaHidden: "true" }, inner);
}
