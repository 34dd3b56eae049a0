/** The one state from which the view is drawn. It is the address, so each change is a step of the browser's history. */

import { NOTHING, fromHash, toHash } from "./address.js";

/** Holds what is shown; tells when it has changed. */
export class Store {
  #view = fromHash(location.hash);
  #onChange;

  /** @param {function(import("./address.js").View, import("./address.js").View): void} onChange called with the
   *   new view and the earlier one */
  constructor(onChange) {
    this.#onChange = onChange;
    addEventListener("popstate", () => this.#set(fromHash(location.hash)));
  }

  /** @returns {import("./address.js").View} */
  get view() {
    return this.#view;
  }

  /** @returns {boolean} whether there is a change of this file's view to undo */
  get canUndo() {
    return (history.state?.steps ?? 0) > 0;
  }

  /** @param {object} fields of the view that change
   *  @param {boolean} replace whether this continues the latest change, as each letter of a text does */
  change(fields, replace = false) {
    const view = { ...this.#view, ...fields };
    const steps = (history.state?.steps ?? 0) + (replace ? 0 : 1);
    this.#write(view, replace, steps);
  }

  /** Show another file, as it is.
   *  @param {string|null} file
   *  @param {object|null} options how to read it */
  open(file, options = null) {
    this.#write({ ...NOTHING, file, options }, false, 0);
  }

  /** Show an earlier view.
   *  @param {string} hash of its address */
  go(hash) {
    this.#write(fromHash(hash), false, 0);
  }

  /** Take back the latest change. */
  undo() {
    if (this.canUndo) history.back();
  }

  #write(view, replace, steps) {
    const address = toHash(view) || location.pathname;
    if (replace || toHash(view) === location.hash) history.replaceState({ steps }, "", address);
    else history.pushState({ steps }, "", address);
    this.#set(view);
  }

  #set(view) {
    const earlier = this.#view;
    this.#view = view;
    this.#onChange(view, earlier);
  }
}
