/**
 * A table of any size: only the visible cells are in the document, and rows are fetched in windows.
 *
 * The visible rows stick to the top of a region that scrolls over an empty box as high as all rows would be. Browsers
 * limit boxes to about 30 million pixels, so the box of a larger table is not as high, and each of its pixels stands for
 * several pixels of rows.
 */

import { make } from "../dom.js";
import { isNumeric, shortType, whole } from "../format.js";
import { Windows } from "./windows.js";

const ROW_HEIGHT = 30; // px, as all of these; passed to the style sheet as custom properties
const HEAD_HEIGHT = 92;
const COLUMN_WIDTH = 160;
const DIGIT_WIDTH = 9; // of the row numbers
const INDEX_PADDING = 24; // around the row numbers
const MAX_HEIGHT = 8_000_000;

/** The table in its scrolling region. */
export class ResultTable {
  #listeners = new AbortController();
  #first = 0; // index of the topmost row

  /**
   * @param {HTMLElement} region scrolls and receives key events
   * @param {object} options
   * @param {{name: string, dtype: string, note: string, chart: function(): Node|null}[]} options.columns
   * @param {number} options.total rows
   * @param {function(number, number): Promise<any[][]>} options.fetch returns rows, given offset and limit
   * @param {function(number, number): void} options.onMove called with the first visible row and one past the last
   * @param {function(Error|null): void} options.onError called when rows cannot be fetched, with null once
   *   they can again
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
      onRows: () => {
        onError(null);
        this.#draw();
      },
    });
    this.indexWidth = DIGIT_WIDTH * whole(total).length + INDEX_PADDING;
    this.head = make("thead");
    this.body = make("tbody");
    this.rows = make("table", { className: "rows" }, this.head, this.body);
    this.rows.setAttribute("aria-rowcount", total + 1);
    this.rows.setAttribute("aria-colcount", columns.length);
    this.box = make("div", {}, this.rows);
    this.box.style.height = `${Math.min(MAX_HEIGHT, total * ROW_HEIGHT + HEAD_HEIGHT)}px`;
    this.box.style.width = `${this.indexWidth + columns.length * COLUMN_WIDTH}px`;
    const sizes = { row: ROW_HEIGHT, head: HEAD_HEIGHT, column: COLUMN_WIDTH, index: this.indexWidth };
    for (const [name, size] of Object.entries(sizes)) region.style.setProperty(`--${name}`, `${size}px`);
    region.replaceChildren(this.box);
    region.scrollTo(0, 0);
    const { signal } = this.#listeners;
    region.addEventListener("scroll", () => this.#scrolled(), { signal });
    region.addEventListener("keydown", (event) => this.#key(event), { signal });
    region.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(region);
  }

  /** Remove the table from the region. */
  close() {
    this.#listeners.abort();
    this.windows.close();
    this.observer.disconnect();
    this.region.replaceChildren();
  }

  /** Redraw, and request missing rows again. */
  retry() {
    this.#draw();
  }

  get #visible() {
    return Math.max(1, Math.floor((this.region.clientHeight - HEAD_HEIGHT) / ROW_HEIGHT));
  }

  get #last() {
    return Math.max(0, this.total - this.#visible);
  }

  get #range() {
    return Math.max(1, this.region.scrollHeight - this.region.clientHeight);
  }

  #scrolled() {
    const position = (this.#first / Math.max(1, this.#last)) * this.#range;
    // Scrolling by #scrollTo also arrives here, rounded to pixels that may stand for many rows.
    if (Math.abs(position - this.region.scrollTop) > 1.5) {
      this.#first = Math.round((this.region.scrollTop / this.#range) * this.#last);
    }
    this.#draw();
  }

  #scrollTo(row) {
    this.#first = Math.max(0, Math.min(this.#last, row));
    this.region.scrollTop = (this.#first / Math.max(1, this.#last)) * this.#range;
    this.#draw();
  }

  #key(event) {
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -this.#visible, PageDown: this.#visible, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || event.target !== this.region || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#scrollTo(this.#first + step);
  }

  #wheel(event) {
    if (event.deltaY === 0 || event.ctrlKey || event.shiftKey || this.box.offsetHeight < MAX_HEIGHT) return;
    event.preventDefault(); // one pixel stands for many rows
    this.#scrollTo(this.#first + Math.sign(event.deltaY) * Math.max(1, Math.round(Math.abs(event.deltaY) / ROW_HEIGHT)));
  }

  #draw() {
    const { scrollLeft, clientWidth } = this.region;
    this.#first = Math.min(this.#first, this.#last); // the region may have grown
    const from = Math.min(this.columns.length, Math.max(0, Math.floor((scrollLeft - this.indexWidth) / COLUMN_WIDTH)));
    const to = Math.min(this.columns.length, Math.ceil((scrollLeft + clientWidth) / COLUMN_WIDTH) + 1);
    const end = Math.min(this.total, this.#first + this.#visible);
    const gap = () => (from ? [this.#gap(from)] : []);
    const heads = this.columns.slice(from, to).map((column, index) => header(column, from + index));
    this.head.replaceChildren(make("tr", {}, make("td", { className: "index" }), ...gap(), ...heads));
    const lines = [];
    for (let index = this.#first; index < end; index += 1) {
      const row = this.windows.row(index);
      const cells = this.columns.slice(from, to).map((column, offset) => makeCell(row, from + offset, column.dtype));
      const line = make("tr", {}, make("td", { className: "index" }, whole(index + 1)), ...gap(), ...cells);
      line.setAttribute("aria-rowindex", index + 2);
      lines.push(line);
    }
    this.body.replaceChildren(...lines);
    this.onMove(this.#first, end);
    this.windows.request(this.#first, end);
  }

  #gap(columns) {
    const element = make("td", { className: "gap", ariaHidden: "true" });
    element.style.width = `${columns * COLUMN_WIDTH}px`;
    return element;
  }
}

function header({ name, dtype, note, chart }, index) {
  const facts = make("small", {}, [shortType(dtype), note].filter(Boolean).join(" · "));
  const image = chart();
  const element = make("th", { scope: "col", title: `${name} (${dtype})` }, make("span", {}, name), facts, ...(image ? [image] : []));
  element.setAttribute("aria-colindex", index + 1);
  return element;
}

function makeCell(row, index, dtype) {
  if (!row) return make("td", { className: "loading" }, "…");
  const value = row[index];
  if (value === null) return make("td", { className: "null" }, "null");
  const text = cellText(value);
  return make("td", { className: isNumeric(dtype) ? "number" : "", title: text }, text);
}

/** A BigInt as raw JSON. BigInts only occur in browsers that support raw JSON. */
const rawInteger = (value) => JSON.rawJSON(String(value));

/** A cell as text. A JavaScript number holds integers of 53 bits, a column of 64: rounded ones are marked with ≈. */
function cellText(value) {
  if (typeof value === "object") return JSON.stringify(value, (key, part) => (typeof part === "bigint" ? rawInteger(part) : part));
  return Number.isInteger(value) && !Number.isSafeInteger(value) && Math.abs(value) < 2 ** 64 ? `≈ ${value}` : String(value);
}
