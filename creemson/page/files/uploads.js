/** Takes files, dropped or picked, and keeps the list of their uploads. */

import { button, byId, make } from "./dom.js";
import { share } from "./format.js";
import { forget, isSame, unfinished } from "./memory.js";
import { Upload } from "./upload.js";

/** The uploads of this page. */
export class Uploads {
  #client;
  #onUploaded;
  #uploads = new Map(); // by name, the latest of each

  /** @param {import("./creemson.js").Client} client
   *  @param {function(object): void} onUploaded is told of each `uploaded` message */
  constructor(client, onUploaded) {
    this.#client = client;
    this.#onUploaded = onUploaded;
    const input = byId("file-input");
    input.addEventListener("change", () => {
      this.#takeAll(input.files);
      input.value = ""; // so that the same file can be picked again
    });
    this.#acceptDrops(byId("drop"));
    for (const [name, entry] of Object.entries(unfinished())) remind(name, entry);
    client.addEventListener("state", () => this.#uploads.forEach((upload) => upload.showState()));
  }

  /** The whole page takes drops: a file that misses the box would otherwise replace the page. */
  #acceptDrops(box) {
    for (const type of ["dragenter", "dragover"]) {
      document.addEventListener(type, (event) => {
        event.preventDefault();
        box.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => event.relatedTarget || box.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      box.classList.remove("over");
      this.#takeAll(event.dataTransfer.files);
    });
  }

  #takeAll(files) {
    for (const file of files) this.#take(file);
  }

  #take(file) {
    const running = this.#uploads.get(file.name);
    if (running && !running.ended) {
      const { size, lastModified: modified } = running.file;
      if (isSame(file, { size, modified })) return running.resume();
      running.abort(); // the newer file is the one that is wanted
    }
    const before = unfinished()[file.name];
    // Of a file that was changed, or that this browser has not begun, the server may hold other bytes.
    const known = Boolean(before && isSame(file, before));
    for (const old of [...byId("uploads").children]) {
      if ([old.dataset.unfinished, old.dataset.upload].includes(file.name)) old.remove();
    }
    const upload = new Upload(this.#client, file, { known, onUploaded: this.#onUploaded });
    this.#uploads.set(file.name, upload);
    byId("uploads").append(upload.element);
  }
}

/** Say that a file is not complete; to go on, the browser needs it to be picked again. */
function remind(name, { size, offset }) {
  const text = `${name} is not complete (${share(offset, size)}): pick the file again to go on.`;
  const drop = button("Forget", () => {
    forget(name);
    item.remove();
  });
  const item = make("li", { dataset: { unfinished: name } }, make("div", { className: "row" }, make("span", {}, text), drop));
  byId("uploads").append(item);
}
