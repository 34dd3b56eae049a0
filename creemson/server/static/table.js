/**
 * A table of any size: only the cells in sight are in the document, and rows come in windows.
 *
 * The rows stick to the top of a region that scrolls over an empty box as high as all rows would be. Browsers end
 * boxes at some 30 million pixels, so the box of a larger table is lower, and a pixel of it stands for more than one.
 */

import { make } from "./dom.js";
import { isNumeric, shortType, whole } from "./format.js";

const ROW = 30; // px; these four are also in style.css
const HEAD = 88;
const COLUMN = 160;
const INDEX = 90;
const HIGHEST = 8_000_000;
const WINDOW = 200;
const CELLS = 40_000; // of a window, at the most
const KEPT = 20; // windows
const QUIET = 40; // ms without scrolling before rows are asked for

/** Windows of rows: those that were seen last are kept. */
class Windows {
  #kept = new Map();
  #pending = new Set();

  /** @param {function(number, number): Promise<any[][]>} fetch rows, given offset and limit
   *  @param {number} columns
   *  @param {function(): void} onArrival is called when rows have come */
  constructor(fetch, columns, onArrival) {
    this.size = Math.max(1, Math.min(WINDOW, Math.floor(CELLS / Math.max(1, columns))));
    this.fetch = fetch;
    this.onArrival = onArrival;
  }

  /** @returns {any[]|undefined} the row, if it is here */
  row(index) {
    const number = Math.floor(index / this.size);
    const rows = this.#kept.get(number);
    if (rows) {
      this.#kept.delete(number); // put last again
      this.#kept.set(number, rows);
    }
    return rows?.[index % this.size];
  }

  /** Ask for the windows that hold these rows, unless they are here or on their way. */
  async want(first, last) {
    for (let number = Math.floor(first / this.size); number * this.size < last; number += 1) {
      if (this.#kept.has(number) || this.#pending.has(number)) continue;
      this.#pending.add(number);
      try {
        this.#kept.set(number, await this.fetch(number * this.size, this.size));
        if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value);
      } finally {
        this.#pending.delete(number);
      }
      this.onArrival();
    }
  }
}

/** The table in its region. */
export class ResultTable {
  #stopped = new AbortController();
  #first = 0; // row on top
  #timer = 0;

  /**
   * @param {HTMLElement} region scrolls, and takes the keys
   * @param {object} options
   * @param {{name: string, dtype: string, note: string, picture: Node|null}[]} options.columns
   * @param {number} options.total rows
   * @param {function(number, number): Promise<any[][]>} options.fetch rows, given offset and limit
   * @param {function(number, number): void} options.onMove is told the rows in sight, from and to
   * @param {function(Error): void} options.onError
   */
  constructor(region, { columns, total, fetch, onMove, onError }) {
    this.region = region;
    this.columns = columns;
    this.total = total;
    this.onMove = onMove;
    this.onError = onError;
    this.windows = new Windows(fetch, columns.length, () => this.#draw());
    this.head = make("thead");
    this.body = make("tbody");
    this.rows = make("table", { className: "rows" }, this.head, this.body);
    this.rows.setAttribute("aria-rowcount", total + 1);
    this.rows.setAttribute("aria-colcount", columns.length);
    this.box = make("div", {}, this.rows);
    this.box.style.height = `${Math.min(HIGHEST, total * ROW + HEAD)}px`;
    this.box.style.width = `${INDEX + columns.length * COLUMN}px`;
    region.replaceChildren(this.box);
    region.scrollTo(0, 0);
    const { signal } = this.#stopped;
    region.addEventListener("scroll", () => this.#scrolled(), { signal });
    region.addEventListener("keydown", (event) => this.#key(event), { signal });
    region.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(region);
  }

  /** Let go of the region. */
  close() {
    this.#stopped.abort();
    this.observer.disconnect();
    clearTimeout(this.#timer);
    this.region.replaceChildren();
  }

  get #visible() {
    return Math.max(1, Math.floor((this.region.clientHeight - HEAD) / ROW));
  }

  get #last() {
    return Math.max(0, this.total - this.#visible);
  }

  get #range() {
    return Math.max(1, this.region.scrollHeight - this.region.clientHeight);
  }

  #scrolled() {
    const position = (this.#first / Math.max(1, this.#last)) * this.#range;
    // Our own scrolling comes back here, rounded to pixels that may stand for many rows.
    if (Math.abs(position - this.region.scrollTop) > 1.5) {
      this.#first = Math.round((this.region.scrollTop / this.#range) * this.#last);
    }
    this.#draw();
  }

  #go(row) {
    this.#first = Math.max(0, Math.min(this.#last, row));
    this.region.scrollTop = (this.#first / Math.max(1, this.#last)) * this.#range;
    this.#draw();
  }

  #key(event) {
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -this.#visible, PageDown: this.#visible, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || event.target !== this.region || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#go(this.#first + step);
  }

  #wheel(event) {
    if (event.deltaY === 0 || event.ctrlKey || this.box.offsetHeight < HIGHEST) return;
    event.preventDefault(); // a pixel would be many rows
    this.#go(this.#first + Math.sign(event.deltaY) * Math.max(1, Math.round(Math.abs(event.deltaY) / ROW)));
  }

  #draw() {
    const { scrollLeft, clientWidth } = this.region;
    const from = Math.min(this.columns.length, Math.max(0, Math.floor((scrollLeft - INDEX) / COLUMN)));
    const to = Math.min(this.columns.length, Math.ceil((scrollLeft + clientWidth) / COLUMN) + 1);
    const last = Math.min(this.total, this.#first + this.#visible);
    const gap = () => (from ? [this.#gap(from)] : []);
    const heads = this.columns.slice(from, to).map((column, index) => header(column, from + index));
    this.head.replaceChildren(make("tr", {}, make("td", { className: "index" }), ...gap(), ...heads));
    const lines = [];
    for (let index = this.#first; index < last; index += 1) {
      const row = this.windows.row(index);
      const cells = this.columns.slice(from, to).map((column, offset) => cell(row, from + offset, column.dtype));
      const line = make("tr", {}, make("td", { className: "index" }, whole(index + 1)), ...gap(), ...cells);
      line.setAttribute("aria-rowindex", index + 2);
      lines.push(line);
    }
    this.body.replaceChildren(...lines);
    this.onMove(this.#first, last);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.windows.want(this.#first, last).catch(this.onError), QUIET);
  }

  #gap(columns) {
    const element = make("td", { className: "gap", ariaHidden: "true" });
    element.style.width = `${columns * COLUMN}px`;
    return element;
  }
}

function header({ name, dtype, note, picture }, index) {
  const facts = make("small", {}, [shortType(dtype), note].filter(Boolean).join(" · "));
  const element = make("th", { scope: "col", title: `${name} (${dtype})` }, name, facts, ...(picture ? [picture] : []));
  element.setAttribute("aria-colindex", index + 1);
  return element;
}

function cell(row, index, dtype) {
  if (!row) return make("td", {}, "…");
  const value = row[index];
  if (value === null) return make("td", { className: "null" }, "empty");
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return make("td", { className: isNumeric(dtype) ? "number" : "", title: text }, text);
}
