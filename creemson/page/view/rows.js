/** Shows the rows of the view and follows its changes: a new request cancels the one before. */

import { byId, showError } from "../dom.js";
import { counted, visible, whole } from "../format.js";
import { Grid } from "../table/grid.js";
import { windowSize } from "../table/windows.js";

const FAST_TYPING = 150; // ms between the letters of somebody who types fast
const TYPING_PAUSE = 100; // ms without a further letter, if letters come fast; else the first rows of each are wanted
const BUSY_AFTER = 250; // ms until rows that are out of date are dimmed
const ASK_AGAIN = [2, 4, 8, 15, 30, 60]; // s, while only a part of a large file has been looked at

/** @typedef {{filename: string, how: object, limit: number|null, columns: import("../table/grid.js").GridColumn[],
 *   places: number[], decimal: string}} Source `how`: options of `client.rows`; `places`: which cells of a row are shown */

/** The rows in the grid. */
export class Rows {
  #client;
  #grid = null;
  #abort = new AbortController();
  #timers = [];
  #on;
  #source = null;
  #typed = 0; // when the latest letter was typed

  /** @param {import("../creemson.js").Client} client
   *  @param {object} on
   *  @param {function(number, HTMLElement): void} on.menu called with the number of a column and its header
   *  @param {function(number, number): void} on.select called with the first and last of the columns that are selected
   *  @param {function(): void} on.again called when somebody tries again after there were no rows */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    byId("grid-retry").onclick = () => (this.#grid ? this.#grid.retry() : on.again());
  }

  /** @type {number|null} rows of the view; null while that is unknown, as of a very large file */
  total = null;

  /** @returns {Grid|null} */
  get grid() {
    return this.#grid;
  }

  /** Remove the rows, and stop asking for them. */
  hide() {
    this.#stop();
    this.#grid?.close();
    this.#grid = null;
    for (const name of ["view-facts", "grid-position"]) byId(name).textContent = "";
    this.#showProblem(null);
    this.#showCell(null);
  }

  /** Show other rows; those from before stay until the new ones have arrived.
   *  @param {Source} source
   *  @param {boolean} typing whether to wait for further letters */
  async show(source, typing = false) {
    const signal = this.#stop();
    this.#source = source;
    this.total = null;
    this.#later(() => byId("grid").classList.add("busy"), BUSY_AFTER);
    if (typing && this.#isFast()) await new Promise((resolve) => this.#later(resolve, TYPING_PAUSE));
    if (signal.aborted) return;
    try {
      const window = await this.#fetch(source, 0, windowSize(source.columns.length), signal);
      if (signal.aborted) return;
      this.#draw(source, window, signal);
      if (!window.complete) this.#askAgain(source, signal, ASK_AGAIN);
    } catch (error) {
      if (signal.aborted) return;
      this.fail(); // rows that are not those of the view would mislead
      this.#showProblem(error);
    }
  }

  #isFast() {
    const before = this.#typed;
    this.#typed = performance.now();
    return this.#typed - before < FAST_TYPING;
  }

  /** Show no rows, but a way to try again. */
  fail() {
    this.hide();
    this.#settled("failed");
    byId("grid-retry").hidden = false;
  }

  /** Show other facts about the columns that are shown.
   *  @param {import("../table/grid.js").GridColumn[]} columns */
  describe(columns) {
    if (this.#source?.columns.length === columns.length) this.#grid?.describe(columns);
  }

  #stop() {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#timers.forEach(clearTimeout);
    this.#timers = [];
    byId("grid").dataset.state = "waiting";
    return this.#abort.signal;
  }

  #later(act, milliseconds) {
    this.#timers.push(setTimeout(act, milliseconds));
  }

  async #fetch({ filename, how, limit, places }, offset, count, signal) {
    const wanted = limit === null ? count : Math.min(count, limit - offset);
    const { rows, total, complete } = await this.#client.rows(filename, offset, Math.max(1, wanted), { ...how, texts: true, signal });
    const all = total !== null && limit !== null ? Math.min(total, limit) : total;
    return { rows: rows.map((row) => places.map((place) => row[place])).slice(0, Math.max(0, wanted)), total: all, complete };
  }

  #draw(source, { rows, total, complete }, signal) {
    const size = windowSize(source.columns.length);
    // The number of rows of a large file is not known at first; there are more behind a full window.
    let known = total ?? rows.length + (rows.length === size ? size : 0);
    this.#grid?.close();
    this.#showProblem(null);
    this.#settled("ready");
    this.#showFacts(source, total, complete);
    this.total = total;
    this.#grid = new Grid(byId("grid"), {
      columns: source.columns,
      total: known,
      rows,
      decimal: source.decimal,
      fetch: async (offset, count) => {
        const window = await this.#fetch(source, offset, count, signal);
        const end = offset + window.rows.length;
        if (window.total === null && window.rows.length === count && end + count > known) this.#grid?.grow((known = end + count));
        return window.rows;
      },
      onMove: (first, end) => {
        byId("grid-position").textContent = end ? `Rows ${whole(first + 1)} to ${whole(end)}` : "No rows";
      },
      onCell: (text) => this.#showCell(text),
      onError: (error) => signal.aborted || this.#showProblem(error), // else these rows are about to be replaced
      onMenu: this.#on.menu,
      onSelect: this.#on.select,
    });
  }

  #settled(state) {
    byId("grid").classList.remove("busy");
    this.#timers.forEach(clearTimeout);
    byId("grid").dataset.state = state;
  }

  #showFacts({ columns, how, limit }, total, complete) {
    const isFiltered = how.where?.length || how.find;
    const matching = isFiltered ? (total === 1 ? " matches" : " match") : "";
    const rows = total === null ? "Rows are being counted" : `${counted(total, "row")}${limit === total && limit !== null ? " at most" : matching}`;
    byId("view-facts").textContent = [`${rows} · ${counted(columns.length, "column")}`, complete ? null : "only the beginning of the file has been searched so far"]
      .filter(Boolean)
      .join(" · ");
  }

  /** Ask again until the whole file has been looked at: then there may be more rows. */
  #askAgain(source, signal, [pause, ...later]) {
    if (!pause) return;
    this.#later(async () => {
      try {
        const window = await this.#fetch(source, 0, windowSize(source.columns.length), signal);
        if (signal.aborted) return;
        if (window.complete && window.total !== null) {
          this.#showFacts(source, window.total, true);
          this.#grid?.grow(window.total);
        } else this.#askAgain(source, signal, later);
      } catch (error) {
        if (!signal.aborted) this.#showProblem(error);
      }
    }, pause * 1000);
  }

  #showCell(text) {
    byId("grid-cell").hidden = text === null;
    byId("grid-cell").textContent = visible(text ?? "");
  }

  #showProblem(error) {
    showError(byId("grid-error"), error);
    byId("grid-retry").hidden = error === null;
  }
}
