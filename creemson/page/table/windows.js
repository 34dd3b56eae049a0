/** Fetches the rows of a large table in windows, and caches those that were used last. */

const MAX_ROWS = 200; // of a window
const MAX_CELLS = 40_000; // of a window
const MAX_CACHED = 20; // windows
const REST = 300; // ms without a request, after which the windows beside are fetched: most views are soon followed by another
const PAUSE = 40; // ms after a request, so that dragging through millions of rows does not request all of them

/** @param {number} columns of a table
 *  @returns {number} the rows that are fetched at a time */
export const windowSize = (columns) => Math.max(1, Math.min(MAX_ROWS, Math.floor(MAX_CELLS / Math.max(1, columns))));

/** The windows of one table. One request is in flight at a time, always for the rows that are visible then. */
export class Windows {
  #cache = new Map();
  #wanted = [0, 0];
  #busy = false;
  #closed = false;
  #rest = 0; // timer

  /**
   * @param {object} options
   * @param {number} options.columns
   * @param {number} options.total rows
   * @param {any[][]} [options.rows] the first ones, if they are known
   * @param {function(number, number): Promise<any[][]>} options.fetch returns rows, given offset and limit
   * @param {function(): void} options.onRows called when rows have arrived
   * @param {function(Error): void} options.onError called when a request fails; the next `request` tries again
   */
  constructor({ columns, total, rows = [], fetch, onRows, onError }) {
    this.size = windowSize(columns);
    this.total = total;
    this.fetch = fetch;
    this.onRows = onRows;
    this.onError = onError;
    if (rows.length >= Math.min(this.size, total)) this.#cache.set(0, rows);
  }

  /** @param {number} index
   *  @returns {any[]|undefined} the row, if it is cached */
  row(index) {
    const number = Math.floor(index / this.size);
    const rows = this.#cache.get(number);
    if (rows) {
      this.#cache.delete(number); // move to the end: most recently used
      this.#cache.set(number, rows);
    }
    return rows?.[index % this.size];
  }

  /** Fetch these rows, and then the windows before and after them.
   *  @param {number} first
   *  @param {number} end one past the last */
  request(first, end) {
    this.#wanted = [first, end];
    clearTimeout(this.#rest);
    if (!this.#busy) this.#fetchMissing();
  }

  /** @param {number} total rows, when more of them are known; windows that ended early are fetched again */
  grow(total) {
    this.total = total;
    for (const [number, rows] of this.#cache) if (rows.length < this.size) this.#cache.delete(number);
  }

  /** Ignore rows that are still in flight. */
  close() {
    this.#closed = true;
    clearTimeout(this.#rest);
  }

  async #fetchMissing(isResting = false) {
    this.#busy = true;
    try {
      for (let number = this.#nextMissing(isResting); number !== undefined && !this.#closed; number = this.#nextMissing(isResting)) {
        const rows = await this.fetch(number * this.size, this.size);
        if (this.#closed) return;
        this.#cache.set(number, rows);
        if (this.#cache.size > MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value);
        this.onRows();
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
      clearTimeout(this.#rest);
      if (!isResting && !this.#closed) this.#rest = setTimeout(() => this.#busy || this.#fetchMissing(true), REST);
    } catch (error) {
      if (!this.#closed) this.onError(error);
    } finally {
      this.#busy = false;
    }
  }

  /** @returns {number|undefined} number of the window to fetch next; undefined if all are cached */
  #nextMissing(isResting) {
    const [first, end] = this.#wanted;
    if (end <= first) return undefined;
    const [from, to] = [Math.floor(first / this.size), Math.floor((end - 1) / this.size)];
    const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
    const last = Math.floor((this.total - 1) / this.size);
    const beside = [to + 1, from - 1].filter((number) => number >= 0 && number <= last);
    return [...numbers, ...(isResting ? beside : [])].find((number) => !this.#cache.has(number));
  }
}
