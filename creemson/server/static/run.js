/** One run at a time: how far it is, and how it ended. */

import { byId, focusUnlessBusy, make, showError } from "./dom.js";
import { bytes, counted, seconds, whole } from "./format.js";

const PHASES = { queued: "Waiting for its turn", reading: "Reading", sorting: "Sorting", writing: "Writing" };

/** Runs queries, and shows the latest. */
export class Runs {
  #client;
  #on;
  #current = null;
  #phase = "";

  /** @param {import("./creemson.js").Client} client
   *  @param {object} on
   *  @param {function(object): void} on.changed is told of each run, when it begins, is accepted, and ends
   *  @param {function(): void} on.begun is told that an earlier result is out of date
   *  @param {function(object): void} on.done is told the output of the latest run */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    byId("cancel").onclick = () => this.#current?.cancel();
    client.addEventListener("state", ({ detail }) => this.#connectionChanged(detail.state));
  }

  /** @param {object} query for `client.process`; one that runs already is cancelled */
  async start(query) {
    this.#current?.cancel();
    const run = { filename: query.filename, state: "running", created: Date.now() / 1000 };
    this.#begin(run);
    const ifCurrent = (act) => (...args) => this.#current === handle && act(...args);
    const handle = this.#client.process(query, {
      onAccepted: ifCurrent((_, position) => {
        log(position ? `Accepted; ${whole(position)} before it` : "Accepted");
        this.#on.changed(run);
      }),
      onProgress: ifCurrent((progress) => this.#showProgress(progress)),
      onLog: ifCurrent(({ message }) => log(message)),
    });
    this.#current = handle;
    try {
      const { output_data: output } = await handle.promise;
      Object.assign(run, { state: "done", rows: output.rows });
      if (this.#current === handle) this.#succeed(output);
    } catch (error) {
      run.state = error.reason === "cancelled" ? "cancelled" : "failed";
      if (this.#current === handle) this.#fail(error);
    }
    run.finished = Date.now() / 1000;
    this.#on.changed(run);
  }

  #begin(run) {
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
    log(`Asked for ${run.filename}`);
    this.#on.changed(run);
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
    this.#current = null;
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
