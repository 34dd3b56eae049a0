/**
 * A table of any size: only the cells in sight are in the document, and rows come in windows.
 *
 * The rows stick to the top of a region that scrolls over an empty box as high as all rows would be. Browsers end
 * boxes at some 30 million pixels, so the box of a larger table is lower, and a pixel of it stands for more than one.
 */

import { make } from "./dom.js";
import { isNumeric, shortType, whole } from "./format.js";
import { Windows } from "./windows.js";

const ROW = 30; // px, all of these; the style sheet is told
const HEAD = 92;
const COLUMN = 160;
const DIGIT = 9; // of the numbers of the rows, and
const PADDING = 24; // around them
const HIGHEST = 8_000_000;

/** The table in its region. */
export class ResultTable {
  #stopped = new AbortController();
  #first = 0; // row on top

  /**
   * @param {HTMLElement} region scrolls, and takes the keys
   * @param {object} options
   * @param {{name: string, dtype: string, note: string, picture: function(): Node|null}[]} options.columns
   * @param {number} options.total rows
   * @param {function(number, number): Promise<any[][]>} options.fetch rows, given offset and limit
   * @param {function(number, number): void} options.onMove is told the rows in sight, from and to
   * @param {function(Error|null): void} options.onError is told why rows do not come, and when they do again
   */
  constructor(region, { columns, total, fetch, onMove, onError }) {
    this.region = region;
    this.columns = columns;
    this.total = total;
    this.onMove = onMove;
    this.windows = new Windows({
      columns: columns.length,
      total,
      fetch,
      onError,
      onArrival: () => {
        onError(null);
        this.#draw();
      },
    });
    this.index = DIGIT * whole(total).length + PADDING;
    this.head = make("thead");
    this.body = make("tbody");
    this.rows = make("table", { className: "rows" }, this.head, this.body);
    this.rows.setAttribute("aria-rowcount", total + 1);
    this.rows.setAttribute("aria-colcount", columns.length);
    this.box = make("div", {}, this.rows);
    this.box.style.height = `${Math.min(HIGHEST, total * ROW + HEAD)}px`;
    this.box.style.width = `${this.index + columns.length * COLUMN}px`;
    const sizes = { row: ROW, head: HEAD, column: COLUMN, index: this.index };
    for (const [name, size] of Object.entries(sizes)) region.style.setProperty(`--${name}`, `${size}px`);
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
    this.windows.close();
    this.observer.disconnect();
    this.region.replaceChildren();
  }

  /** Draw again, and ask again for what is missing. */
  retry() {
    this.#draw();
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
    if (event.deltaY === 0 || event.ctrlKey || event.shiftKey || this.box.offsetHeight < HIGHEST) return;
    event.preventDefault(); // a pixel would be many rows
    this.#go(this.#first + Math.sign(event.deltaY) * Math.max(1, Math.round(Math.abs(event.deltaY) / ROW)));
  }

  #draw() {
    const { scrollLeft, clientWidth } = this.region;
    this.#first = Math.min(this.#first, this.#last); // the region may have become higher
    const from = Math.min(this.columns.length, Math.max(0, Math.floor((scrollLeft - this.index) / COLUMN)));
    const to = Math.min(this.columns.length, Math.ceil((scrollLeft + clientWidth) / COLUMN) + 1);
    const end = Math.min(this.total, this.#first + this.#visible);
    const gap = () => (from ? [this.#gap(from)] : []);
    const heads = this.columns.slice(from, to).map((column, index) => header(column, from + index));
    this.head.replaceChildren(make("tr", {}, make("td", { className: "index" }), ...gap(), ...heads));
    const lines = [];
    for (let index = this.#first; index < end; index += 1) {
      const row = this.windows.row(index);
      const cells = this.columns.slice(from, to).map((column, offset) => cell(row, from + offset, column.dtype));
      const line = make("tr", {}, make("td", { className: "index" }, whole(index + 1)), ...gap(), ...cells);
      line.setAttribute("aria-rowindex", index + 2);
      lines.push(line);
    }
    this.body.replaceChildren(...lines);
    this.onMove(this.#first, end);
    this.windows.want(this.#first, end);
  }

  #gap(columns) {
    const element = make("td", { className: "gap", ariaHidden: "true" });
    element.style.width = `${columns * COLUMN}px`;
    return element;
  }
}

function header({ name, dtype, note, picture }, index) {
  const facts = make("small", {}, [shortType(dtype), note].filter(Boolean).join(" · "));
  const image = picture();
  const element = make("th", { scope: "col", title: `${name} (${dtype})` }, make("span", {}, name), facts, ...(image ? [image] : []));
  element.setAttribute("aria-colindex", index + 1);
  return element;
}

function cell(row, index, dtype) {
  if (!row) return make("td", { className: "coming" }, "…");
  const value = row[index];
  if (value === null) return make("td", { className: "null" }, "empty");
  const text = shown(value);
  return make("td", { className: isNumeric(dtype) ? "number" : "", title: text }, text);
}

/** A large integer as JSON has it; only a browser that knows of raw JSON has made one. */
const exactly = (value) => JSON.rawJSON(String(value));

/** A cell as text. A number of JavaScript has 53 bits, a column of integers 64: what was rounded says so. */
function shown(value) {
  if (typeof value === "object") return JSON.stringify(value, (key, part) => (typeof part === "bigint" ? exactly(part) : part));
  return Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 2 ** 64 ? `≈ ${value}` : String(value);
}
