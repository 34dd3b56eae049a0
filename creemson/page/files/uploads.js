/** Accepts dropped and selected files, and shows the list of their uploads. */

import { button, byId, make } from "../dom.js";
import { share } from "../format.js";
import { forgetUpload, isSame, unfinishedUploads } from "./unfinished.js";
import { Upload } from "./upload.js";

/** The uploads of this page. */
export class Uploads {
  #client;
  #viewOf;
  #onUploaded;
  #uploads = new Map(); // the latest upload of each filename

  /** @param {import("../creemson.js").Client} client
   *  @param {function(): object} viewOf returns what is shown
   *  @param {function(object, {isOpen: boolean, isOnly: boolean, view: object}): void} onUploaded receives each `uploaded` message, and
   *   what is known of the files that were chosen with it: whether one of them has been opened, whether there is only one,
   *   and what was shown then */
  constructor(client, viewOf, onUploaded) {
    this.#client = client;
    this.#viewOf = viewOf;
    this.#onUploaded = onUploaded;
    const input = byId("file-input");
    input.addEventListener("change", () => {
      this.#startAll(input.files);
      input.value = ""; // so that the same file can be selected again
    });
    this.#acceptDrops(byId("drop"));
    for (const [name, entry] of Object.entries(unfinishedUploads())) showUnfinished(name, entry);
    client.addEventListener("state", () => this.#uploads.forEach((upload) => upload.showState()));
  }

  /** The whole page accepts drops: if a file missed the box, the browser would open it and leave the page. */
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
      this.#startAll(event.dataTransfer.files);
    });
  }

  #startAll(files) {
    const batch = { isOpen: false, isOnly: files.length === 1, view: this.#viewOf() };
    for (const file of files) this.#start(file, batch);
  }

  /** Upload a file that the page has made.
   *  @param {File} file */
  add(file) {
    this.#startAll([file]);
  }

  #start(file, batch) {
    const running = this.#uploads.get(file.name);
    if (running && !running.ended) {
      const { size, lastModified: modified } = running.file;
      if (isSame(file, { size, modified })) return running.resume();
      running.abort(); // the newly selected file replaces it
    }
    const earlier = unfinishedUploads()[file.name];
    // If the file has changed, or another browser started the upload, the server may hold other bytes.
    const known = Boolean(earlier && isSame(file, earlier));
    for (const item of [...byId("uploads").children]) {
      if ([item.dataset.unfinished, item.dataset.upload].includes(file.name)) item.remove();
    }
    const upload = new Upload(this.#client, file, { known, onUploaded: (uploaded) => this.#onUploaded(uploaded, batch) });
    this.#uploads.set(file.name, upload);
    byId("uploads").append(upload.element);
  }
}

/** Show that an upload is incomplete; the browser needs the file to be selected again to resume it. */
function showUnfinished(name, { size, offset }) {
  const text = `${name} is incomplete (${share(offset, size)}): select the file again to resume the upload.`;
  const forget = button("Forget", () => {
    forgetUpload(name);
    item.remove();
  });
  const item = make("li", { dataset: { unfinished: name } }, make("div", { className: "row" }, make("span", {}, text), forget));
  byId("uploads").append(item);
}
