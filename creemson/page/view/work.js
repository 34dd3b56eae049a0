/** Shows the progress of a job that somebody waits for, above the rows. One at a time: a new one replaces the one before. */

import { byId, showError } from "../dom.js";
import { rememberAsked } from "../files/asked.js";
import { bytes, isPresent, seconds } from "../format.js";

/** The progress above the rows. */
export class Work {
  #client;
  #current = null;

  /** @param {import("../creemson.js").Client} client */
  constructor(client) {
    this.#client = client;
    byId("work-cancel").onclick = () => this.stop();
  }

  /** Run a job.
   *  @param {string} words what is done now
   *  @param {object} query a `process` message
   *  @param {string} asked what the job is for, for the list of jobs
   *  @returns {Promise<object|null>} the output; null if it was cancelled or failed, which is shown */
  job(words, query, asked) {
    const onAccepted = (job) => rememberAsked(job, asked);
    return this.#run(words, () => {
      const { promise, cancel } = this.#client.process(query, { onAccepted, onProgress: (progress) => this.#showJob(words, progress) });
      return { promise: promise.then(({ output_data: output }) => output), cancel };
    });
  }

  /** Download a file.
   *  @param {string} words what it is for
   *  @param {string} filename on the server
   *  @returns {Promise<Blob|null>} null if it was cancelled or failed, which is shown */
  download(words, filename) {
    return this.#run(words, () => {
      const onProgress = ({ offset, size }) => this.#show(words, offset / Math.max(1, size), `${bytes(offset)} of ${bytes(size)}`);
      const { promise, abort } = this.#client.download(filename, { onProgress });
      return { promise, cancel: abort };
    });
  }

  /** Cancel what is running. */
  stop() {
    this.#current?.cancel();
    this.#current = null;
    byId("work").hidden = true;
  }

  /** Show an error in the place of the progress. */
  fail(error) {
    showError(byId("work-error"), error);
  }

  async #run(words, begin) {
    this.stop();
    this.fail(null);
    this.#show(words, null, "");
    const own = (this.#current = begin());
    byId("work").hidden = false;
    try {
      const found = await own.promise;
      return this.#current === own ? found : null;
    } catch (error) {
      if (this.#current === own && error.reason !== "cancelled") this.fail(error);
      return null;
    } finally {
      if (this.#current === own) this.stop();
    }
  }

  #showJob(words, { fraction, eta_s: left }) {
    this.#show(words, fraction, isPresent(left) ? `${seconds(left)} left` : "");
  }

  #show(words, fraction, figures) {
    const bar = byId("work-bar");
    if (fraction === null) bar.removeAttribute("value");
    else bar.value = fraction;
    byId("work-words").textContent = [words, figures].filter(Boolean).join(" · ");
  }
}
