/** What is shown of a file: its rows at once, then as they are searched, filtered and sorted. */

import { byId, focusUnlessBusy } from "../dom.js";
import { isNumeric, visible } from "../format.js";
import { typeWord } from "../table/types.js";
import { Rows } from "./rows.js";

/** The open file; everything in it follows the state. */
export class FileView {
  #store;
  #rows;
  #description = null; // columns, reading and issues of the file

  /** @param {import("../creemson.js").Client} client
   *  @param {import("./store.js").Store} store */
  constructor(client, store) {
    this.#store = store;
    this.#rows = new Rows(client, null);
    byId("find").addEventListener("input", () => {
      const earlier = store.view.find;
      store.change({ find: byId("find").value }, earlier !== "");
    });
  }

  /** Show a file that has just been opened.
   *  @param {{columns: object[], reading: object|null}} description */
  open(description) {
    const { file } = this.#store.view;
    this.#description = description;
    byId("view").hidden = false;
    byId("view-name").textContent = visible(file);
    document.title = `${visible(file)} – Creemson`;
    focusUnlessBusy(byId("view-title"), byId("files-section"));
    this.draw();
  }

  /** Close the file. */
  close() {
    this.#rows.hide();
    this.#description = null;
    byId("view").hidden = true;
    document.title = "Creemson";
  }

  /** Draw everything from the state.
   *  @param {boolean} typing whether a text is being typed */
  draw(typing = false) {
    if (!this.#description) return;
    const { find } = this.#store.view;
    if (byId("find").value !== find) byId("find").value = find;
    this.#rows.show(this.#source(), typing);
  }

  #source() {
    const { file, options, where, find, sort, limit } = this.#store.view;
    const { columns, reading } = this.#description;
    return {
      filename: file,
      how: { options, where: where.length ? where : null, find, sort: sort.length ? sort : null },
      limit,
      columns: columns.map(({ name, dtype }) => ({
        name, type: typeWord(dtype), numeric: isNumeric(dtype), note: "", chart: () => null,
      })),
      places: columns.map(({ index }) => index),
      decimal: reading?.decimal ?? ".",
    };
  }
}
