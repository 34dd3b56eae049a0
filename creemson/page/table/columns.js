/** The columns of a grid: where each begins, how wide it is, and which of them are visible. */

const CHARACTER = 8.2; // px, of the grid's font
const PADDING = 26; // px, of a cell, both sides
const MENU = 22; // px, of the sign beside the name
const MIN_WIDTH = 48;
const MIN_FIT = 158; // the type, the missing share and the picture of a column need it
const MAX_FIT = 340;

/** The widths of columns in px, and what follows from them. */
export class Columns {
  #widths;
  #starts; // px of the left side of each column, and of the right side of the last one

  /** @param {number[]} widths px */
  constructor(widths) {
    this.#widths = widths;
    this.#measure();
  }

  /** @returns {number} px of all columns together */
  get total() {
    return this.#starts.at(-1);
  }

  /** @param {number} index
   *  @returns {number} px between the first column and this one */
  start(index) {
    return this.#starts[index];
  }

  /** @param {number} index
   *  @returns {number} px */
  width(index) {
    return this.#widths[index];
  }

  /** @param {number} index
   *  @param {number} width px; a column never gets too narrow to be found again */
  resize(index, width) {
    this.#widths[index] = Math.max(MIN_WIDTH, Math.round(width));
    this.#measure();
  }

  /** @param {number} left px
   *  @param {number} right px
   *  @returns {[number, number]} the first column between these and one past the last */
  between(left, right) {
    const count = this.#widths.length;
    let from = 0;
    while (from < count - 1 && this.#starts[from + 1] <= left) from += 1;
    let to = from;
    while (to < count && this.#starts[to] < right) to += 1;
    return [Math.min(from, count), to];
  }

  #measure() {
    this.#starts = [0];
    for (const width of this.#widths) this.#starts.push(this.#starts.at(-1) + width);
  }
}

/**
 * The width at which a column shows its name and its first cells.
 *
 * @param {string} name
 * @param {number[]} lengths of its cells in characters
 * @returns {number} px
 */
export function fittingWidth(name, lengths) {
  const longest = Math.max(0, ...lengths);
  const wanted = Math.max(longest * CHARACTER, name.length * CHARACTER + MENU) + PADDING;
  return Math.round(Math.min(MAX_FIT, Math.max(MIN_FIT, wanted)));
}
