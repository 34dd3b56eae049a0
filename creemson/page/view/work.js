/** Shows the progress of what somebody waits for. One at a time: a new one replaces the one before, or waits for it. */

import { byId, showError } from "../dom.js";
import { rememberAsked } from "../files/asked.js";
import { bytes, isPresent, seconds } from "../format.js";

/** The progress, in the elements whose ids begin with a name. */
export class Work {
  #client;
  #name;
  #onJob;
  #current = null;
  #inTurn;
  #last = Promise.resolve(); // settles when all that was begun has ended
  #waiting = 0; // for their turn
  #words = []; // of what is running

  /** @param {import("../creemson.js").Client} client
   *  @param {string} name of the elements
   *  @param {function(): void} onJob called when a job has been accepted, and when it has ended
   *  @param {boolean} inTurn whether a new one waits for the one before, instead of replacing it */
  constructor(client, name, onJob, inTurn = false) {
    this.#inTurn = inTurn;
    this.#client = client;
    this.#name = name;
    this.#onJob = onJob;
    byId(`${name}-cancel`).onclick = () => this.stop();
  }

  /** Run a job.
   *  @param {string} words what is done now
   *  @param {object} query a `process` message
   *  @param {string} asked address of the view that the job is for
   *  @returns {Promise<object|null>} the output; null if it was cancelled or failed, which is shown */
  job(words, query, asked) {
    return this.#job(words, (callbacks) => this.#client.process(query, callbacks), (job) => rememberAsked(job, asked));
  }

  /** Wait for a job that the server has.
   *  @param {string} words
   *  @param {string} job
   *  @returns {Promise<object|null>} as of `job` */
  attach(words, job) {
    return this.#job(words, (callbacks) => this.#client.attach(job, callbacks));
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
    byId(this.#name).hidden = true;
  }

  /** Show an error in the place of the progress. */
  fail(error) {
    showError(byId(`${this.#name}-error`), error);
  }

  async #job(words, begin, remember = () => {}) {
    let note = ""; // such as on which machine the job runs
    const output = await this.#run(words, () => {
      const { promise, cancel } = begin({
        onAccepted: (job) => {
          remember(job);
          this.#onJob();
        },
        onProgress: ({ fraction, eta_s: left }) => this.#show(words, fraction, note, isPresent(left) ? `${seconds(left)} left` : ""),
        onLog: ({ message }) => this.#show(words, null, (note = message)),
      });
      return { promise: promise.then(({ output_data: found }) => found), cancel };
    });
    this.#onJob();
    return output;
  }

  #run(words, begin) {
    if (!this.#inTurn) this.stop();
    if (!this.#current) this.fail(null);
    if (!this.#inTurn) return this.#begin(words, begin);
    this.#wait(1);
    return (this.#last = this.#last.then(() => {
      this.#wait(-1);
      return this.#begin(words, begin);
    }));
  }

  async #begin(words, begin) {
    this.#show(words, null, "");
    const own = (this.#current = begin());
    byId(this.#name).hidden = false;
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

  #show(words, fraction, ...more) {
    const bar = byId(`${this.#name}-bar`);
    if (fraction === null) bar.removeAttribute("value");
    else bar.value = fraction;
    this.#words = [words, ...more];
    this.#wait(0);
  }

  #wait(more) {
    this.#waiting += more;
    const waiting = this.#waiting && `${this.#waiting} more to come`;
    byId(`${this.#name}-words`).textContent = [...this.#words, waiting].filter(Boolean).join(" · ");
  }
}
