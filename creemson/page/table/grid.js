/**
 * A table of any size: only the visible cells are in the document, and rows are fetched in windows.
 *
 * The visible rows stick to the top of a region that scrolls over an empty box as high as all rows would be. Browsers
 * limit boxes to about 30 million pixels, so the box of a larger table is not as high, and each of its pixels stands for
 * several pixels of rows.
 *
 * Keys are those of the ARIA grid pattern. The region keeps the focus and names the active cell
 * (`aria-activedescendant`), because cells are made anew with each drawing.
 */

import { make } from "../dom.js";
import { whole } from "../format.js";
import { cellText, computedText, longestFraction, makeCell } from "./cells.js";
import { Columns, fittingWidth } from "./columns.js";
import { Windows } from "./windows.js";

const ROW_HEIGHT = 30; // px, as all of these; passed to the style sheet as custom properties
const HEAD_HEIGHT = 92;
const DIGIT_WIDTH = 9; // of the row numbers
const INDEX_PADDING = 24; // around the row numbers
const MAX_HEIGHT = 8_000_000;
const MEASURED_ROWS = 60; // whose cells decide the widths of columns
const EDGE_SCROLL = 40; // for each move beyond an edge
const HEADER = -1; // as a row, for the active cell

/** @typedef {{name: string, type: string, numeric: boolean, note: string, chart: function(): (Node|null),
 *   sorted?: "asc"|"desc"|null, selected?: boolean, isComputed?: boolean}} GridColumn `type` in plain words; `note` is shown beside it */

/** The table in its scrolling region. */
export class Grid {
  #listeners = new AbortController();
  #first = 0; // index of the topmost row
  #active = { row: HEADER, column: 0 };
  #columns;
  #layout;
  #total;
  #drag = null; // the column whose width is being dragged, with where that began
  #range = null; // first and last of the headers that are being dragged over
  #anchor = 0; // the column from which Shift selects

  /**
   * @param {HTMLElement} region scrolls and receives key events
   * @param {object} options
   * @param {GridColumn[]} options.columns
   * @param {number} options.total rows
   * @param {any[][]} [options.rows] the first ones, if they are known
   * @param {string} [options.decimal] the decimal sign of numbers
   * @param {function(number, number): Promise<any[][]>} options.fetch returns rows, given offset and limit
   * @param {function(number, number): void} options.onMove called with the first visible row and one past the last
   * @param {function(string|null): void} options.onCell called with the text of the active cell if its column is too narrow for it
   * @param {function(Error|null): void} options.onError called when rows cannot be fetched, with null once
   *   they can again
   * @param {function(number, HTMLElement): void} options.onMenu called with a column and its header
   * @param {function(number, number): void} options.onSelect called with the first and the last column of a
   *   range of headers that were selected by dragging over them, or with Shift
   */
  constructor(region, { columns, total, rows = [], decimal = ".", fetch, onMove, onCell, onError, onMenu, onSelect }) {
    Object.assign(this, { region, decimal, onMove, onCell, onMenu, onSelect });
    this.#columns = columns;
    this.#total = total;
    this.windows = new Windows({
      columns: columns.length,
      total,
      rows,
      fetch,
      onError,
      onRows: () => {
        onError(null);
        this.#draw();
      },
    });
    this.#layout = new Columns(columns.map((_, index) => this.#fit(rows, index)));
    this.fitted = rows.length > 0;
    this.head = make("thead");
    this.body = make("tbody");
    this.table = make("table", { className: "rows", role: "presentation" }, this.head, this.body);
    this.box = make("div", { role: "presentation" }, this.table);
    for (const part of [this.head, this.body]) part.setAttribute("role", "rowgroup");
    for (const [name, size] of Object.entries({ row: ROW_HEIGHT, head: HEAD_HEIGHT })) region.style.setProperty(`--${name}`, `${size}px`);
    region.setAttribute("role", "grid");
    region.setAttribute("aria-colcount", columns.length);
    region.replaceChildren(this.box);
    this.#resized();
    region.scrollTo(0, 0);
    this.#listen();
  }

  /** Remove the table from the region. */
  close() {
    this.#listeners.abort();
    this.windows.close();
    this.observer.disconnect();
    this.region.removeAttribute("aria-activedescendant");
    this.region.replaceChildren();
  }

  /** Redraw, and request missing rows again. */
  retry() {
    this.#draw();
  }

  /** Show other facts about the same columns.
   *  @param {GridColumn[]} columns */
  describe(columns) {
    this.#columns = columns;
    this.#draw();
  }

  /** @param {number} total rows, when more of them are known */
  grow(total) {
    this.#total = total;
    this.windows.grow(total);
    this.#resized();
    this.#draw();
  }

  /** @param {number} index of a column to widen or narrow
   *  @param {number} change px */
  widen(index, change) {
    this.#resize(index, this.#layout.width(index) + change);
  }

  #listen() {
    const { region } = this;
    const { signal } = this.#listeners;
    region.addEventListener("scroll", () => this.#scrolled(), { signal });
    region.addEventListener("keydown", (event) => this.#key(event), { signal });
    region.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    region.addEventListener("click", (event) => this.#click(event), { signal });
    region.addEventListener("copy", (event) => this.#copy(event), { signal });
    region.addEventListener("dblclick", (event) => this.#fitAgain(event), { signal });
    region.addEventListener("pointerdown", (event) => this.#startDrag(event), { signal });
    addEventListener("pointermove", (event) => this.#dragged(event), { signal }); // also beyond the edges
    for (const type of ["pointerup", "pointercancel"]) addEventListener(type, () => this.#endDrag(), { signal });
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(region);
  }

  // --- sizes ---------------------------------------------------------------------------------------------

  get #visible() {
    return Math.max(1, Math.floor((this.region.clientHeight - HEAD_HEIGHT) / ROW_HEIGHT));
  }

  get #last() {
    return Math.max(0, this.#total - this.#visible);
  }

  get #scrollRange() {
    return Math.max(1, this.region.scrollHeight - this.region.clientHeight);
  }

  #fit(rows, index) {
    const some = rows.slice(0, MEASURED_ROWS);
    const { textOf, places, decimal } = this.#style(some, index);
    // The fractions of numbers stand below each other, so a cell takes more than its own text.
    const lengths = some.map((row) => (textOf(row[index]) ?? "").split(places ? decimal : "\n")[0].length + places);
    return fittingWidth(this.#columns[index].name, lengths);
  }

  #resize(column, width) {
    this.#layout.resize(column, width);
    this.#resized();
    this.#draw();
  }

  #resized() {
    this.indexWidth = DIGIT_WIDTH * whole(this.#total).length + INDEX_PADDING;
    this.region.setAttribute("aria-rowcount", this.#total + 1);
    this.region.style.setProperty("--index", `${this.indexWidth}px`);
    this.box.style.height = `${Math.min(MAX_HEIGHT, this.#total * ROW_HEIGHT + HEAD_HEIGHT)}px`;
    this.box.style.width = `${this.indexWidth + this.#layout.total}px`;
  }

  // --- moving --------------------------------------------------------------------------------------------

  #scrolled() {
    const position = (this.#first / Math.max(1, this.#last)) * this.#scrollRange;
    // Scrolling by #scrollTo also arrives here, rounded to pixels that may stand for many rows.
    if (Math.abs(position - this.region.scrollTop) > 1.5) {
      this.#first = Math.round((this.region.scrollTop / this.#scrollRange) * this.#last);
    }
    this.#draw();
  }

  #scrollTo(row) {
    this.#first = Math.max(0, Math.min(this.#last, row));
    this.region.scrollTop = (this.#first / Math.max(1, this.#last)) * this.#scrollRange;
  }

  /** Move the active cell, and scroll so that it is visible. */
  #activate(row, column) {
    row = Math.max(HEADER, Math.min(this.#total - 1, row));
    column = Math.max(0, Math.min(this.#columns.length - 1, column));
    this.#active = { row, column };
    if (row !== HEADER && row < this.#first) this.#scrollTo(row);
    if (row >= this.#first + this.#visible) this.#scrollTo(row - this.#visible + 1);
    const [left, right] = [this.#layout.start(column), this.#layout.start(column + 1)];
    const room = this.region.clientWidth - this.indexWidth;
    if (left < this.region.scrollLeft) this.region.scrollLeft = left;
    else if (right > this.region.scrollLeft + room) this.region.scrollLeft = Math.min(left, right - room);
    this.#draw();
  }

  #key(event) {
    if (event.target !== this.region || event.metaKey || event.altKey) return;
    const { row, column } = this.#active;
    const far = event.ctrlKey;
    const moves = {
      ArrowUp: [far ? 0 : row - 1, column],
      ArrowDown: [far ? this.#total - 1 : row + 1, column],
      ArrowLeft: [row, far ? 0 : column - 1],
      ArrowRight: [row, far ? Infinity : column + 1],
      Home: [far ? 0 : row, 0],
      End: [far ? this.#total - 1 : row, Infinity],
      PageUp: [Math.max(0, row - this.#visible), column],
      PageDown: [row + this.#visible, column],
    };
    const isSelecting = event.shiftKey && row === HEADER && ["ArrowLeft", "ArrowRight"].includes(event.key);
    if (moves[event.key]) this.#activate(...moves[event.key]);
    if (isSelecting) this.onSelect(this.#anchor, this.#active.column);
    else if (moves[event.key]) this.#anchor = this.#active.column;
    else if (["Enter", " "].includes(event.key) && row === HEADER) this.onMenu(column, this.#activeElement);
    else return;
    event.preventDefault();
  }

  #wheel(event) {
    if (event.deltaY === 0 || event.ctrlKey || event.shiftKey || this.box.offsetHeight < MAX_HEIGHT) return;
    event.preventDefault(); // one pixel stands for many rows
    this.#scrollTo(this.#first + Math.sign(event.deltaY) * Math.max(1, Math.round(Math.abs(event.deltaY) / ROW_HEIGHT)));
    this.#draw();
  }

  // --- the mouse -----------------------------------------------------------------------------------------

  #click({ target, shiftKey }) {
    const cell = target.closest("[aria-colindex]");
    if (!cell || target.closest(".grip") || hasSelection()) return; // drawing would take the selection away
    const column = cell.ariaColIndex - 1;
    const row = cell.closest("tr").ariaRowIndex - 2;
    this.#activate(row, column);
    if (row === HEADER && shiftKey) return this.onSelect(this.#anchor, column);
    this.#anchor = column;
    if (row === HEADER) this.onMenu(column, this.#activeElement);
  }

  /** Copy the whole text of the active cell, unless a part of it is selected. */
  #copy(event) {
    const { row, column } = this.#active;
    if (hasSelection() || row === HEADER) return;
    event.clipboardData.setData("text/plain", this.#textOf(row, column) ?? "");
    event.preventDefault();
  }

  #startDrag(event) {
    const header = event.target.closest("th");
    if (!header || event.button !== 0) return;
    const column = header.ariaColIndex - 1;
    if (event.target.closest(".grip")) this.#drag = { column, x: event.clientX, width: this.#layout.width(column) };
    else if (event.pointerType === "mouse") this.#range = [column, column];
    if (this.#drag) event.preventDefault();
  }

  #dragged(event) {
    if (!this.#drag && !this.#range) return;
    if (this.#drag) {
      this.region.setPointerCapture(event.pointerId); // the header is made anew
      return this.#resize(this.#drag.column, this.#drag.width + event.clientX - this.#drag.x);
    }
    const column = this.#columnAt(event.clientX);
    if (column === this.#range[1]) return;
    this.#range[1] = column;
    this.#draw();
  }

  /** The column at a place; beyond an edge of the region, this scrolls. */
  #columnAt(x) {
    const { left, right } = this.region.getBoundingClientRect();
    if (x < left || x > right) this.region.scrollLeft += x < left ? -EDGE_SCROLL : EDGE_SCROLL;
    const header = this.head.querySelector("th");
    const origin = header.getBoundingClientRect().left - this.#layout.start(header.ariaColIndex - 1);
    const inside = Math.min(Math.max(x, left + 1), right - 2) - origin;
    return this.#layout.between(inside, inside)[0];
  }

  #endDrag() {
    const range = this.#range;
    this.#drag = this.#range = null;
    if (range && range[0] !== range[1]) this.onSelect(...range);
  }

  #fitAgain({ target }) {
    const grip = target.closest(".grip");
    if (!grip) return;
    const column = grip.closest("th").ariaColIndex - 1;
    const rows = Array.from({ length: this.#visible }, (_, index) => this.windows.row(this.#first + index)).filter(Boolean);
    this.#resize(column, this.#fit(rows, column));
  }

  // --- drawing -------------------------------------------------------------------------------------------

  get #activeElement() {
    return this.region.querySelector(".active");
  }

  #draw() {
    const { scrollLeft, clientWidth } = this.region;
    this.#first = Math.min(this.#first, this.#last); // the region may have grown
    const end = Math.min(this.#total, this.#first + this.#visible);
    const indices = Array.from({ length: end - this.#first }, (_, index) => this.#first + index);
    const rows = indices.map((index) => this.windows.row(index));
    if (!this.fitted && rows[0]) this.#refit(rows.filter(Boolean));
    const [from, to] = this.#layout.between(scrollLeft, scrollLeft + clientWidth);
    const shown = Array.from({ length: to - from }, (_, index) => from + index);
    const gap = () => (from ? [this.#gap(this.#layout.start(from))] : []);
    this.head.replaceChildren(line(0, make("td", { className: "index", role: "presentation" }), gap(), shown.map((index) => this.#header(index))));
    const styles = shown.map((index) => this.#style(rows, index));
    this.body.replaceChildren(
      ...rows.map((row, at) => {
        const cells = shown.map((index, offset) => this.#place(makeCell(row, index, styles[offset]), "gridcell", indices[at], index));
        return line(indices[at] + 1, make("td", { className: "index", role: "presentation" }, whole(indices[at] + 1)), gap(), cells);
      }),
    );
    this.#nameActive();
    this.onMove(this.#first, end);
    this.onCell(this.#cutText());
    this.windows.request(this.#first, end);
  }

  /** The widths wait for the first rows if the grid was made without them. */
  #refit(rows) {
    this.fitted = true;
    this.#columns.forEach((_, index) => this.#layout.resize(index, this.#fit(rows, index)));
    this.#resized();
  }

  #style(rows, index) {
    const { numeric, isComputed = false } = this.#columns[index];
    const textOf = (value) => (isComputed && numeric ? computedText(value, this.decimal) : cellText(value));
    return { numeric, textOf, decimal: this.decimal, places: numeric ? longestFraction(rows, (row) => textOf(row[index]), this.decimal) : 0 };
  }

  /** The text of the active cell, if not all of it is seen there. */
  #cutText() {
    const cell = this.#activeElement;
    const { row, column } = this.#active;
    const text = cell && row !== HEADER ? this.#textOf(row, column) : null;
    return text && (cell.scrollWidth > cell.clientWidth || text.includes("\n")) ? text : null;
  }

  #textOf(row, column) {
    const cells = this.windows.row(row);
    return cells && this.#style([cells], column).textOf(cells[column]);
  }

  #header(index) {
    const { name, type, note, chart, sorted, selected } = this.#columns[index];
    const title = make("button", { type: "button", className: "name", tabIndex: -1, ariaLabel: `Menu of ${name}` }, make("span", {}, name));
    const facts = make("small", {}, [type, note].filter(Boolean).join(" · "));
    const picture = chart();
    const grip = make("span", { className: "grip", ariaHidden: "true", title: "Drag to change the width" });
    const header = make("th", { scope: "col", title: `${name} (${[type, note].filter(Boolean).join(", ")})` }, title, facts, ...(picture ? [picture] : []), grip);
    const [first, last] = (this.#range ?? [0, 0]).toSorted((one, other) => one - other);
    if (selected || (first !== last && index >= first && index <= last)) header.classList.add("selected");
    if (selected) header.ariaSelected = "true";
    if (sorted) header.ariaSort = sorted === "asc" ? "ascending" : "descending";
    return this.#place(header, "columnheader", HEADER, index);
  }

  #place(cell, role, row, column) {
    cell.setAttribute("role", role);
    cell.ariaColIndex = column + 1;
    cell.style.width = cell.style.maxWidth = `${this.#layout.width(column)}px`;
    if (row === this.#active.row && column === this.#active.column) cell.classList.add("active");
    return cell;
  }

  #nameActive() {
    const active = this.#activeElement;
    if (!active) return this.region.removeAttribute("aria-activedescendant");
    active.id = `${this.region.id}-active`;
    this.region.setAttribute("aria-activedescendant", active.id);
  }

  #gap(width) {
    const element = make("td", { className: "gap", role: "presentation" });
    element.style.width = `${width}px`;
    return element;
  }
}

const hasSelection = () => getSelection().type === "Range";

function line(number, index, gap, cells) {
  const row = make("tr", { role: "row" }, index, ...gap, ...cells);
  row.ariaRowIndex = number + 1;
  return row;
}
