/** Rows of a large table, fetched a window at a time; those that were looked at last are kept. */

const WINDOW = 200; // rows
const CELLS = 40_000; // of a window, at the most
const KEPT = 20; // windows
const QUIET = 40; // ms after a request, so that a drag through millions of rows does not ask for all of them

/** The windows of one table. One request is under way at a time, for what is in sight by then. */
export class Windows {
  #kept = new Map();
  #wanted = [0, 0];
  #busy = false;
  #closed = false;

  /**
   * @param {object} options
   * @param {number} options.columns
   * @param {number} options.total rows
   * @param {function(number, number): Promise<any[][]>} options.fetch rows, given offset and limit
   * @param {function(): void} options.onArrival is called when rows have come
   * @param {function(Error): void} options.onError is called when they do not; the next `want` asks again
   */
  constructor({ columns, total, fetch, onArrival, onError }) {
    this.size = Math.max(1, Math.min(WINDOW, Math.floor(CELLS / Math.max(1, columns))));
    this.total = total;
    this.fetch = fetch;
    this.onArrival = onArrival;
    this.onError = onError;
  }

  /** @param {number} index
   *  @returns {any[]|undefined} the row, if it is here */
  row(index) {
    const number = Math.floor(index / this.size);
    const rows = this.#kept.get(number);
    if (rows) {
      this.#kept.delete(number); // put last again
      this.#kept.set(number, rows);
    }
    return rows?.[index % this.size];
  }

  /** Have these rows brought, and then those on either side of them.
   *  @param {number} first
   *  @param {number} end one past the last */
  want(first, end) {
    this.#wanted = [first, end];
    if (!this.#busy) this.#bring();
  }

  /** What is still on its way is of interest to nobody. */
  close() {
    this.#closed = true;
  }

  async #bring() {
    this.#busy = true;
    try {
      for (let number = this.#missing(); number !== undefined && !this.#closed; number = this.#missing()) {
        const rows = await this.fetch(number * this.size, this.size);
        if (this.#closed) return;
        this.#kept.set(number, rows);
        if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value);
        this.onArrival();
        await new Promise((resolve) => setTimeout(resolve, QUIET));
      }
    } catch (error) {
      if (!this.#closed) this.onError(error);
    } finally {
      this.#busy = false;
    }
  }

  /** @returns {number|undefined} the window to ask for next; undefined if all is here */
  #missing() {
    const [first, end] = this.#wanted;
    if (end <= first) return undefined;
    const [from, to] = [Math.floor(first / this.size), Math.floor((end - 1) / this.size)];
    const numbers = Array.from({ length: to - from + 1 }, (_, index) => from + index);
    const last = Math.floor((this.total - 1) / this.size);
    const beside = [to + 1, from - 1].filter((number) => number >= 0 && number <= last);
    return [...numbers, ...beside].find((number) => !this.#kept.has(number));
  }
}
