/** One upload, and its entry in the list. */

import { announce, button, make, showError } from "./dom.js";
import { bytes, seconds } from "./format.js";
import { forget, remember } from "./memory.js";

const RATE_WINDOW = 3_000; // ms over which the rate is taken

/** An upload from its first byte to its end, with as many attempts as the user wants. */
export class Upload {
  #client;
  #onUploaded;
  #transfer = null;
  #offset = 0;
  #held = null; // bytes on the server's disk, as far as we have written it down
  #rate = new Rate();
  #ended = false;

  /** @param {import("./creemson.js").Client} client
   *  @param {File} file
   *  @param {object} options
   *  @param {boolean} options.known whether what the server may hold of this name and size is of this very file
   *  @param {function(object): void} options.onUploaded is told of the `uploaded` message */
  constructor(client, file, { known, onUploaded }) {
    this.#client = client;
    this.#onUploaded = onUploaded;
    this.file = file;
    this.known = known;
    this.bar = make("progress", { max: Math.max(1, file.size), value: 0, ariaLabel: `Upload of ${file.name}` });
    this.figures = make("span", { className: "figures" });
    this.controls = make("span", { className: "tools" });
    this.problem = make("p", { className: "error", role: "alert", hidden: true });
    this.element = make(
      "li",
      { dataset: { upload: file.name } },
      make("div", { className: "row" }, make("strong", {}, file.name), this.figures),
      this.problem,
      make("div", { className: "row" }, this.bar, this.controls),
    );
    this.#begin(false);
  }

  /** Whether there is nothing left to resume or to abort. */
  get ended() {
    return this.#ended;
  }

  /** Go on, if it is paused. */
  resume() {
    this.#transfer.resume();
    this.#rate = new Rate(); // the pause took time, but was no slowness
    this.#offerControls();
    this.showState();
  }

  /** Give it up; the server forgets what it has of it. */
  abort() {
    this.#transfer.abort();
  }

  /** Say how it stands; also called when the connection comes or goes. */
  showState() {
    if (this.#ended) return;
    const done = `${bytes(this.#offset)} of ${bytes(this.file.size)}`;
    if (this.#transfer.paused) this.figures.textContent = `paused at ${done}`;
    else if (this.#client.state.state !== "open") this.figures.textContent = `${done} · goes on when the connection is back`;
    else if (this.#held === null) this.figures.textContent = "waiting for its turn";
    else this.figures.textContent = [done, ...this.#rate.words(this.file.size - this.#offset)].join(" · ");
  }

  async #begin(overwrite) {
    this.#ended = false;
    this.#held = null;
    this.bar.hidden = false;
    showError(this.problem, null);
    try {
      const uploaded = await this.#send(overwrite).promise;
      this.#ended = true;
      forget(this.file.name);
      this.element.remove();
      announce(`${this.file.name} is uploaded.`);
      this.#onUploaded(uploaded);
    } catch (error) {
      this.#fail(error);
    }
  }

  #send(overwrite) {
    this.#transfer = this.#client.upload(this.file, {
      overwrite,
      resume: this.known,
      onProgress: ({ offset, safe = offset }) => this.#progress(offset, safe),
    });
    this.#offerControls();
    this.showState();
    return this.#transfer;
  }

  #progress(offset, safe) {
    this.#offset = offset;
    this.bar.value = offset;
    this.#rate.add(offset);
    this.known = true;
    if (safe !== this.#held) remember(this.file, safe);
    this.#held = safe;
    this.showState();
  }

  #fail(error) {
    const gone = error.reason === "cancelled";
    const taken = error.reason === "file_exists";
    const hadFocus = this.controls.contains(document.activeElement);
    this.#ended = true;
    if (gone || taken || !error.retryable) forget(this.file.name);
    this.bar.hidden = true;
    this.figures.textContent = gone ? "cancelled" : "";
    const again = button(taken ? "Replace it" : "Try again", () => this.#begin(taken));
    this.controls.replaceChildren(...(gone ? [] : [again]), button("Dismiss", () => this.element.remove()));
    if (gone) announce(`The upload of ${this.file.name} is cancelled.`);
    else showError(this.problem, error);
    if (hadFocus) this.controls.firstChild.focus();
  }

  #offerControls() {
    const hadFocus = this.controls.contains(document.activeElement);
    const first = this.#transfer.paused
      ? button("Resume", () => this.resume(), { ariaLabel: `Resume the upload of ${this.file.name}` })
      : button("Pause", () => this.#pause(), { ariaLabel: `Pause the upload of ${this.file.name}` });
    const cancel = button("Cancel", () => this.abort(), { ariaLabel: `Cancel the upload of ${this.file.name}` });
    this.controls.replaceChildren(first, cancel);
    if (hadFocus) first.focus();
  }

  #pause() {
    this.#transfer.pause();
    this.#offerControls();
    this.showState();
  }
}

/** How fast it goes, over the last seconds. */
class Rate {
  #seen = [];

  add(offset) {
    const now = performance.now();
    if (offset < this.#seen.at(-1)?.[1]) this.#seen = []; // after a loss it goes on from what the server holds
    this.#seen.push([now, offset]);
    while (this.#seen.length > 2 && now - this.#seen[0][0] > RATE_WINDOW) this.#seen.shift();
  }

  /** @param {number} left bytes still to go
   *  @returns {string[]} rate and time left; none while there is nothing to compare with */
  words(left) {
    if (this.#seen.length < 2) return [];
    const [[then, before], [now, offset]] = [this.#seen[0], this.#seen.at(-1)];
    if (now <= then || offset <= before) return [];
    const rate = ((offset - before) / (now - then)) * 1000;
    return [`${bytes(rate)}/s`, ...(left ? [`${seconds(left / rate)} left`] : [])];
  }
}
