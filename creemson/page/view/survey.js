/** Profiles the whole file in the background: the pictures of its columns, their types, and what is wrong in it. */

import { byId } from "../dom.js";
import { rememberQuiet } from "../files/asked.js";
import { surveyOf } from "./requests.js";

const MAX_BYTES = 64 * 2 ** 20; // of a file that is profiled unasked: larger ones take seconds of the server
const MAX_ROWS = 2_000_000; // likewise
const MAX_COLUMNS = 300; // likewise

/** The profile of the open file. */
export class Survey {
  #client;
  #onDone;
  #cancel = null;
  #key = null; // the request that is running, or has been done
  #asked = null; // arguments of the latest start

  /** @type {object|null} `output_data` of the result */
  output = null;

  /** @param {import("../creemson.js").Client} client
   *  @param {function(object): void} onDone called with `output` when it has arrived */
  constructor(client, onDone) {
    this.#client = client;
    this.#onDone = onDone;
    byId("describe").onclick = () => this.#asked && this.start(...this.#asked, true);
  }

  /** Profile a file; nothing happens if that is done or running already.
   *  @param {import("./address.js").View} view
   *  @param {number} columns
   *  @param {number|null} rows null if that is unknown
   *  @param {boolean} wanted whether somebody asked for it, however large the file is */
  async start(view, columns, rows, wanted = false) {
    const key = JSON.stringify(surveyOf(view));
    if (key === this.#key && !wanted) return;
    this.stop();
    this.#key = key;
    this.#asked = [view, columns, rows];
    this.#show("running");
    try {
      if (!wanted && !(await this.#isSmall(view.file, columns, rows))) return key === this.#key && this.#show("offered");
      if (key !== this.#key) return;
      const { promise, cancel } = this.#client.process({ ...surveyOf(view), on_disconnect: "cancel" }, { onAccepted: rememberQuiet });
      this.#cancel = cancel;
      const { output_data: output } = await promise;
      if (key !== this.#key) return;
      this.output = output;
      this.#show("done");
      this.#onDone(output);
    } catch {
      // The rows are shown without it; what is wrong with the file was told when it was opened.
      if (key === this.#key) this.#show("offered");
    }
  }

  /** Give way to another file. */
  stop() {
    const cancel = this.#cancel;
    this.#key = this.#cancel = this.output = null;
    cancel?.();
  }

  async #isSmall(filename, columns, rows) {
    if (columns > MAX_COLUMNS || rows === null || rows > MAX_ROWS) return false;
    const file = (await this.#client.files()).find((one) => one.filename === filename);
    return file !== undefined && file.size <= MAX_BYTES;
  }

  #show(state) {
    byId("view").dataset.survey = state;
    byId("describe").hidden = state !== "offered";
  }
}
