/** One run at a time: how far it is, and how it ended. */

import { byId, focusUnlessBusy, make, showError } from "./dom.js";
import { bytes, counted, seconds, whole } from "./format.js";
import { forgetRun, rememberRun } from "./memory.js";

const PHASES = { queued: "Waiting for its turn", reading: "Reading", sorting: "Sorting", writing: "Writing" };

/** @typedef {{filename: string, job: string|null, own: boolean}} Run its job is null until it is accepted */

/** Runs queries, joins jobs, and shows the latest. */
export class Runs {
  #client;
  #on;
  #current = null; // the run that is shown, until it has ended
  #cancel = null; // stops it
  #phase = "";

  /** @param {import("./creemson.js").Client} client
   *  @param {object} on
   *  @param {function(): void} on.changed is called when a run is accepted, and when it has ended
   *  @param {function(): void} on.begun is told that an earlier result is out of date
   *  @param {function(object): void} on.done is told the output of the latest run */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    byId("cancel").onclick = () => this.#cancel?.();
    client.addEventListener("state", ({ detail }) => this.#connectionChanged(detail.state));
  }

  /** @param {object} query for `client.process`; an earlier one of this page that is shown and runs is cancelled */
  start(query) {
    if (this.#current?.own) this.#cancel();
    const { filename } = query;
    this.#watch({ filename, job: null, own: true }, "Asked for", (told) => this.#client.process(query, told));
  }

  /** Show a job that the server has, from where it is to its end; what was shown before goes on unseen.
   *  @param {{job: string, filename: string}} entry of the server's list
   *  @param {boolean} own whether it was begun here, before a reload */
  join({ job, filename }, own = false) {
    if (this.#current?.job === job) return;
    this.#watch({ filename, job, own }, "Joined", (told) => this.#client.attach(job, told));
  }

  async #watch(run, word, begin) {
    this.#current = run;
    this.#begin();
    log(`${word} ${run.filename}`);
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
    if (this.#current === run) log(position ? `Accepted; ${whole(position)} before it` : "Accepted");
  }

  #begin() {
    this.#on.begun();
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
    if (state === "waiting") log("Connection lost; the work goes on at the server");
    if (state === "open") log("Connected again");
  }

  #showProgress({ phase, bytes_read, bytes_total, rows, fraction, rows_per_s, eta_s }) {
    const bar = byId("progress-bar");
    if (phase === "reading") bar.value = fraction;
    else bar.removeAttribute("value"); // what comes after reading has no measure
    if (phase !== this.#phase) log(PHASES[phase] ?? phase);
    this.#phase = phase;
    byId("progress-figures").textContent = [
      PHASES[phase] ?? phase,
      `${bytes(bytes_read)} of ${bytes(bytes_total)}`,
      counted(rows, "row"),
      rows_per_s ? `${whole(rows_per_s)} rows/s` : null,
      eta_s !== null && phase === "reading" ? `${seconds(eta_s)} left` : null,
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
