/** The controls above the rows: text to find, number of rows, columns, chips of what was chosen, undo. */

import { button, byId, make } from "../dom.js";
import { whole } from "../format.js";
import { shownOf } from "./requests.js";
import { parts } from "./words.js";

const MAX_LISTED = 300; // columns at a time; the search finds the others

/** The controls; each changes the state, and is drawn from it. */
export class Toolbar {
  #store;
  #names = [];
  #typed = null; // the view after the latest letter to find

  /** @param {import("./store.js").Store} store */
  constructor(store) {
    this.#store = store;
    byId("find").addEventListener("input", ({ target }) => {
      store.change({ find: target.value }, store.view === this.#typed); // a text is one step, however many letters it has
      this.#typed = store.view;
    });
    byId("view-limit").addEventListener("change", ({ target }) => {
      if (target.reportValidity()) store.change({ limit: target.value === "" ? null : Number(target.value) });
    });
    byId("undo").onclick = () => store.undo();
    byId("view-columns-search").addEventListener("input", () => this.#listColumns());
    byId("view-columns-all").onclick = () => this.#hide(this.#others());
    byId("view-columns-none").onclick = () => this.#hide([...this.#others(), ...this.#matches()]);
  }

  /** @param {string[]} names of the columns of the rows */
  draw(names) {
    const { view } = this.#store;
    this.#names = names;
    if (byId("find").value !== view.find) byId("find").value = view.find;
    byId("view-limit").value = view.limit ?? "";
    byId("undo").hidden = !this.#store.canUndo;
    byId("view-columns-count").textContent = `${whole(shownOf(view, names).length)} of ${whole(names.length)}`;
    byId("chips").replaceChildren(
      ...parts(view).map(({ text, change }) =>
        make("li", {}, make("span", { title: text }, text), button("×", () => this.#remove(change), { ariaLabel: `Remove: ${text}`, className: "quiet remove" })),
      ),
    );
    this.#listColumns();
  }

  #remove(change) {
    this.#store.change(change);
    (byId("chips").querySelector("button") ?? byId("find")).focus();
  }

  #matches() {
    const wanted = byId("view-columns-search").value.trim().toLowerCase();
    return this.#names.filter((name) => name.toLowerCase().includes(wanted));
  }

  /** Those that are hidden, and that the search does not match. */
  #others() {
    const matches = new Set(this.#matches());
    return this.#store.view.hidden.filter((name) => !matches.has(name));
  }

  #hide(hidden) {
    this.#store.change({ hidden });
  }

  #listColumns() {
    const { hidden } = this.#store.view;
    const focused = document.activeElement?.closest("#view-columns-list") ? document.activeElement.value : null;
    const boxes = this.#matches().slice(0, MAX_LISTED).map((name) => {
      const box = make("input", { type: "checkbox", value: name, checked: !hidden.includes(name) });
      box.onchange = () => this.#hide(box.checked ? this.#store.view.hidden.filter((one) => one !== name) : [...this.#store.view.hidden, name]);
      return make("label", {}, box, make("span", {}, name));
    });
    byId("view-columns-list").replaceChildren(...boxes);
    if (focused !== null) [...byId("view-columns-list").querySelectorAll("input")].find((box) => box.value === focused)?.focus();
  }
}
