/** Every column of a result at a glance: a picture, how much is empty, figures, the most frequent values. */

import { byId, make } from "./dom.js";
import { counted, share, shortType, whole } from "./format.js";
import { emptiness, figures, picture, plain } from "./pictures.js";

const SHOWN = 300; // columns; of more, the table has the pictures
const TOP = 5;

/** The list that unfolds; it is drawn when somebody looks. */
export class Glance {
  #output = null; // of which nothing is drawn yet

  constructor() {
    byId("profile").addEventListener("toggle", () => this.#draw());
  }

  /** @param {object} output `output_data` of a result */
  show(output) {
    byId("profile").hidden = !output.profile?.length;
    byId("profile-columns").replaceChildren();
    this.#output = output.profile?.length ? output : null;
    this.#draw();
  }

  #draw() {
    if (!byId("profile").open || !this.#output) return;
    const { profile, rows } = this.#output;
    this.#output = null;
    byId("profile-columns").append(...profile.slice(0, SHOWN).map((facts) => card(facts, rows)));
    const more = byId("profile-more");
    more.hidden = profile.length <= SHOWN;
    more.textContent = `${counted(profile.length - SHOWN, "column")} more: the table has their pictures.`;
  }
}

function card(facts, rows) {
  const title = make("h3", {}, facts.column, make("small", {}, shortType(facts.dtype)));
  const empty = make("div", { className: "empty" }, bar(facts.nulls, rows), make("span", {}, emptiness(facts, rows)));
  const list = make("dl", {}, ...figures(facts, rows).map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  return make("li", {}, title, empty, ...(facts.top ? [frequent(facts, rows)] : shape(facts, rows)), list);
}

/** A histogram with what its ends stand for. */
function shape(facts, rows) {
  const image = picture(facts, rows);
  if (!image) return [];
  const { edges } = facts.histogram;
  const ends = make("div", { className: "ends", ariaHidden: "true" }, make("span", {}, plain(edges[0])), make("span", {}, plain(edges.at(-1))));
  return [image, ends];
}

/** The most frequent values, a bar for each. */
function frequent({ top }, rows) {
  const lines = top.slice(0, TOP).map(([value, count]) => {
    const text = value === "" ? "(empty text)" : String(value);
    const words = `${whole(count)} · ${share(count, rows)}`;
    return make("li", {}, bar(count, rows), make("span", { title: text }, text), make("small", {}, words));
  });
  return make("ol", { className: "plain", ariaLabel: "Most frequent values" }, ...lines);
}

/** How much of the whole a part is; beside it stands the same in words. */
function bar(part, whole) {
  const inner = make("i");
  inner.style.width = whole ? `${(100 * part) / whole}%` : "0";
  return make("b", { className: "bar", ariaHidden: "true" }, inner);
}
