/** One upload and its entry in the list. */

import { announce, button, make, showError } from "../dom.js";
import { bytes, seconds } from "../format.js";
import { forgetUpload, rememberUpload } from "./unfinished.js";

const RATE_WINDOW = 3_000; // ms over which the rate is measured

/** An upload; the user can retry it as often as needed. */
export class Upload {
  #client;
  #onUploaded;
  #transfer = null;
  #offset = 0;
  #stored = null; // bytes on the server's disk; null while queued
  #rate = new Rate();
  #ended = false;

  /** @param {import("../creemson.js").Client} client
   *  @param {File} file
   *  @param {object} options
   *  @param {boolean} options.known whether a part that the server holds under this name and size comes from this file
   *  @param {function(object): void} options.onUploaded receives the `uploaded` message */
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
    this.#start(false);
  }

  /** Whether the upload has finished, failed or was cancelled. */
  get ended() {
    return this.#ended;
  }

  /** Resume the upload if it is paused. */
  resume() {
    this.#transfer.resume();
    this.#rate = new Rate(); // the pause must not count as slow
    this.#showControls();
    this.showState();
  }

  /** Cancel the upload; the server deletes the part that it has stored. */
  abort() {
    this.#transfer.abort();
  }

  /** Show the current state; also called when the state of the connection changes. */
  showState() {
    if (this.#ended) return;
    const done = `${bytes(this.#offset)} of ${bytes(this.file.size)}`;
    if (this.#transfer.paused) this.figures.textContent = `paused at ${done}`;
    else if (this.#client.state.state !== "open") this.figures.textContent = `${done} · resumes when the connection is restored`;
    else if (this.#stored === null) this.figures.textContent = "queued";
    else this.figures.textContent = [done, ...this.#rate.describe(this.file.size - this.#offset)].join(" · ");
  }

  async #start(overwrite) {
    this.#ended = false;
    this.#stored = null;
    this.bar.hidden = false;
    showError(this.problem, null);
    try {
      const uploaded = await this.#send(overwrite).promise;
      this.#ended = true;
      forgetUpload(this.file.name);
      this.element.remove();
      announce(`${this.file.name} was uploaded.`);
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
    this.#showControls();
    this.showState();
    return this.#transfer;
  }

  #progress(offset, safe) {
    this.#offset = offset;
    this.bar.value = offset;
    this.#rate.add(offset);
    this.known = true;
    if (safe !== this.#stored) rememberUpload(this.file, safe);
    this.#stored = safe;
    this.showState();
  }

  #fail(error) {
    const cancelled = error.reason === "cancelled";
    const taken = error.reason === "file_exists";
    const hadFocus = this.controls.contains(document.activeElement);
    this.#ended = true;
    if (cancelled || taken || !error.retryable) forgetUpload(this.file.name);
    this.bar.hidden = true;
    this.figures.textContent = cancelled ? "cancelled" : "";
    const retry = button(taken ? "Replace it" : "Try again", () => this.#start(taken));
    this.controls.replaceChildren(...(cancelled ? [] : [retry]), button("Dismiss", () => this.element.remove()));
    if (cancelled) announce(`The upload of ${this.file.name} was cancelled.`);
    else showError(this.problem, error);
    if (hadFocus) this.controls.firstChild.focus();
  }

  #showControls() {
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
    this.#showControls();
    this.showState();
  }
}

/** The transfer rate over the last few seconds. */
class Rate {
  #samples = []; // [time in ms, offset]

  add(offset) {
    const now = performance.now();
    if (offset < this.#samples.at(-1)?.[1]) this.#samples = []; // resumed after a loss, further back
    this.#samples.push([now, offset]);
    while (this.#samples.length > 2 && now - this.#samples[0][0] > RATE_WINDOW) this.#samples.shift();
  }

  /** @param {number} left remaining bytes
   *  @returns {string[]} rate and remaining time; empty until they can be measured */
  describe(left) {
    if (this.#samples.length < 2) return [];
    const [[earlier, before], [now, offset]] = [this.#samples[0], this.#samples.at(-1)];
    if (now <= earlier || offset <= before) return [];
    const rate = ((offset - before) / (now - earlier)) * 1000;
    return [`${bytes(rate)}/s`, ...(left ? [`${seconds(left / rate)} left`] : [])];
  }
}
