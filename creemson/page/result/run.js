/** Runs queries and shows the progress of one job at a time. */

import { byId, focusUnlessBusy, make, showError } from "../dom.js";
import { forgetRun, rememberRun } from "../files/unfinished.js";
import { bytes, counted, isPresent, seconds, whole } from "../format.js";

const PHASES = { queued: "Queued", reading: "Reading", sorting: "Sorting", writing: "Writing" };

/** @typedef {{filename: string, job: string|null, own: boolean}} Run
 *   `job` is null until the job is accepted; `own` says whether this page started it */

/** Starts or attaches to jobs, and shows the latest of them. */
export class Runs {
  #client;
  #on;
  #current = null; // the run that is shown; null once it has ended
  #cancel = null; // cancels the current run
  #phase = "";

  /** @param {import("../creemson.js").Client} client
   *  @param {object} on
   *  @param {function(): void} on.changed called when a job is accepted and when it has ended
   *  @param {function(): void} on.started called when a run starts: an earlier result is out of date
   *  @param {function(object): void} on.done called with the output of the latest run */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    byId("cancel").onclick = () => this.#cancel?.();
    client.addEventListener("state", ({ detail }) => this.#connectionChanged(detail.state));
  }

  /** @param {object} query for `client.process`; cancels the run that is shown if this page started it */
  start(query) {
    if (this.#current?.own) this.#cancel();
    const { filename } = query;
    this.#watch({ filename, job: null, own: true }, "Submitted", (callbacks) => this.#client.process(query, callbacks));
  }

  /** Show a job that the server already has. The job that was shown before continues in the background.
   *  @param {{job: string, filename: string}} entry as in the list of jobs
   *  @param {boolean} own whether this page started it, before a reload */
  attach({ job, filename }, own = false) {
    if (this.#current?.job === job) return;
    this.#watch({ filename, job, own }, "Attached to", (callbacks) => this.#client.attach(job, callbacks));
  }

  async #watch(run, verb, begin) {
    this.#current = run;
    this.#reset();
    log(`${verb} ${run.filename}`);
    const ifCurrent = (act) => (...args) => this.#current === run && act(...args);
    const { promise, cancel } = begin({
      onAccepted: (job, position) => this.#accepted(run, job, position),
      onProgress: ifCurrent((progress) => this.#showProgress(progress)),
      onLog: ifCurrent(({ message }) => log(message)),
    });
    this.#cancel = cancel;
    try {
      const { output_data: output } = await promise;
      if (this.#current === run) this.#succeed(output);
    } catch (error) {
      if (this.#current === run) this.#fail(error);
    }
    forgetRun(run.job);
    this.#on.changed();
  }

  #accepted(run, job, position) {
    run.job = job;
    rememberRun(run);
    this.#on.changed();
    if (this.#current === run) log(position ? `Accepted; ${counted(position, "job")} ahead in the queue` : "Accepted");
  }

  #reset() {
    this.#on.started();
    this.#phase = "";
    byId("progress").hidden = false;
    byId("cancel").hidden = false;
    byId("log").replaceChildren();
    byId("progress-bar").hidden = false;
    byId("progress-bar").removeAttribute("value");
    byId("progress-figures").textContent = "";
    showError(byId("run-error"), null);
    byId("progress").scrollIntoView({ block: "nearest" });
  }

  #succeed(output) {
    byId("progress-bar").value = 1;
    byId("progress-figures").textContent = "Done";
    log(`Done: ${counted(output.rows, "row")}`);
    this.#end();
    this.#on.done(output);
  }

  #fail(error) {
    const cancelled = error.reason === "cancelled";
    byId("progress-bar").hidden = true;
    byId("progress-figures").textContent = cancelled ? "Cancelled" : "Failed";
    log(cancelled ? "Cancelled" : "Failed");
    if (!cancelled) showError(byId("run-error"), error);
    focusUnlessBusy(byId("progress-title"), byId("cancel"), byId("run"));
    this.#end();
  }

  #end() {
    this.#current = this.#cancel = null;
    byId("cancel").hidden = true;
  }

  #connectionChanged(state) {
    if (!this.#current) return;
    if (state === "waiting") log("Connection lost; the server continues the job");
    if (state === "open") log("Reconnected");
  }

  #showProgress({ phase, bytes_read, bytes_total, rows, fraction, rows_per_s, eta_s }) {
    const bar = byId("progress-bar");
    bar.value = fraction;
    if (phase !== this.#phase) log(PHASES[phase] ?? phase);
    this.#phase = phase;
    byId("progress-figures").textContent = [
      PHASES[phase] ?? phase,
      `${bytes(bytes_read)} of ${bytes(bytes_total)}`,
      counted(rows, "row"),
      rows_per_s ? `${whole(rows_per_s)} rows/s` : null,
      isPresent(eta_s) ? `${seconds(eta_s)} left` : null,
    ]
      .filter(Boolean)
      .join(" · ");
  }
}

function log(text) {
  const now = new Date();
  const time = make("time", { dateTime: now.toISOString() }, now.toLocaleTimeString());
  byId("log").append(make("li", {}, time, text));
  byId("log").scrollTop = byId("log").scrollHeight;
}
