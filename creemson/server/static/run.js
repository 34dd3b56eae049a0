/** One run at a time: how far it is, and what came of it. */

import { byId, make, showError } from "./dom.js";
import { bytes, seconds, whole } from "./format.js";
import { emptiness, picture } from "./pictures.js";
import { ResultTable } from "./table.js";

const PHASES = { queued: "Waiting for its turn", reading: "Reading", sorting: "Sorting", writing: "Writing" };

/** Runs queries, and shows the latest. */
export class Runs {
  #client;
  #onChange;
  #table = null;
  #current = null;

  /** @param {import("./creemson.js").Client} client
   *  @param {function(object): void} onChange is told of each run, when it begins and when it ends */
  constructor(client, onChange) {
    this.#client = client;
    this.#onChange = onChange;
    byId("cancel").onclick = () => this.#current?.cancel();
  }

  /** @param {object} query for `client.process`; one that runs already is cancelled */
  async start(query) {
    this.#current?.cancel();
    const run = { filename: query.filename, state: "running", created: Date.now() / 1000 };
    this.#begin(run);
    const handle = this.#client.process(query, {
      onAccepted: (job, position) => {
        log(position ? `Accepted; ${position} before it` : "Accepted");
      },
      onProgress: (progress) => this.#current === handle && showProgress(progress),
      onLog: ({ message }) => log(message),
    });
    this.#current = handle;
    try {
      const { output_data: output } = await handle.promise;
      Object.assign(run, { state: "done", rows: output.rows });
      if (this.#current === handle) this.#show(output);
    } catch (error) {
      run.state = error.reason === "cancelled" ? "cancelled" : "failed";
      if (this.#current === handle) this.#fail(error);
    } finally {
      if (this.#current === handle) {
        this.#current = null;
        byId("cancel").disabled = true;
      }
      run.finished = Date.now() / 1000;
      this.#onChange(run);
    }
  }

  #begin(run) {
    this.#table?.close();
    this.#table = null;
    byId("result").hidden = true;
    byId("progress").hidden = false;
    byId("cancel").disabled = false;
    byId("log").replaceChildren();
    byId("progress-bar").removeAttribute("value");
    byId("progress-figures").textContent = "";
    showError(byId("run-error"), null);
    byId("progress").scrollIntoView({ block: "nearest" });
    log(`Asked for ${run.filename}`);
    this.#onChange(run);
  }

  #fail(error) {
    byId("progress-bar").value = 0;
    byId("progress-figures").textContent = "";
    log(error.reason === "cancelled" ? "Cancelled" : "Failed");
    if (error.reason !== "cancelled") showError(byId("run-error"), error);
  }

  #show(output) {
    byId("progress-bar").value = 1;
    byId("progress-figures").textContent = "Done";
    log("Done");
    byId("result").hidden = false;
    const figures = [
      `${whole(output.rows)} rows × ${whole(output.columns.length)} columns`,
      output.cached ? "answered from store" : `processed in ${output.elapsed_s.toFixed(2)} s`,
    ];
    byId("result-summary").textContent = figures.join(" · ");
    byId("downloads").replaceChildren("Download", ...downloads(output));
    const profiles = output.profile ?? [];
    const columns = output.columns.map((name, index) => ({
      name,
      dtype: output.dtypes[index],
      note: profiles[index] ? emptiness(profiles[index], output.rows) : "",
      picture: profiles[index] ? picture(profiles[index], output.rows) : null,
    }));
    const position = byId("table-position");
    this.#table = new ResultTable(byId("table"), {
      columns,
      total: output.rows,
      fetch: async (offset, limit) => (await this.#client.rows(output.filename, offset, limit)).rows,
      onMove: (first, last) => {
        position.textContent = last ? `Rows ${whole(first + 1)} to ${whole(last)} of ${whole(output.rows)}` : "No rows";
      },
      onError: (error) => (position.textContent = error.message),
    });
    byId("result-title").focus();
  }
}

function showProgress({ phase, bytes_read, bytes_total, rows, fraction, rows_per_s, eta_s }) {
  const bar = byId("progress-bar");
  if (phase === "reading") bar.value = fraction;
  else bar.removeAttribute("value"); // what comes after reading has no measure
  byId("progress-figures").textContent = [
    PHASES[phase] ?? phase,
    `${bytes(bytes_read)} of ${bytes(bytes_total)}`,
    `${whole(rows)} rows`,
    rows_per_s ? `${whole(rows_per_s)} rows/s` : null,
    eta_s !== null && phase === "reading" ? `${seconds(eta_s)} left` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

function log(text) {
  const now = new Date();
  const time = make("time", { dateTime: now.toISOString() }, now.toLocaleTimeString());
  byId("log").append(make("li", {}, time, text));
  byId("log").scrollTop = byId("log").scrollHeight;
}

function downloads({ filename, final_filename_csv: csv, final_filename_excel: excel }) {
  const stem = filename.replace(/\.[^.]*$/, "");
  const names = { CSV: csv, Excel: excel, Parquet: filename, NDJSON: `${stem}.ndjson`, Arrow: `${stem}.arrow` };
  return Object.entries(names).map(([format, name]) =>
    make("a", { href: `download/${encodeURIComponent(name)}`, download: name }, format),
  );
}
