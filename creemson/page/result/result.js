/** Shows the result of a job: figures, downloads, issues, column profiles and rows. */

import { storedToken } from "../connection/sign_in.js";
import { button, byId, focusUnlessBusy, make, save, showError } from "../dom.js";
import { counted, exceededInExcel, isNumeric, whole } from "../format.js";
import { Grid } from "../table/grid.js";
import { typeWord } from "../table/types.js";
import { chart, nullShare } from "./charts.js";
import { Profile } from "./profile.js";
import { showIssues, showReading } from "./reading.js";

const TYPED_FORMATS = ["parquet", "arrow"];
const AS_WRITTEN = "CSV, as in the file";
const NORMALIZED = "CSV, normalized";
const HINTS = {
  [AS_WRITTEN]: "Cells as the file writes them",
  [NORMALIZED]: "ISO dates, decimal points, true and false, empty cells for null",
};

/** The result of the latest job. */
export class Result {
  #client;
  #table = null;
  #profile = new Profile();

  /** @param {import("../creemson.js").Client} client */
  constructor(client) {
    this.#client = client;
    byId("table-retry").onclick = () => this.#table?.retry();
  }

  /** Hide the result. */
  hide() {
    this.#table?.close();
    this.#table = null;
    byId("result").hidden = true;
  }

  /** @param {object} output `output_data` of a result */
  show(output) {
    this.hide();
    byId("result").hidden = false;
    byId("result-summary").textContent = [
      `${counted(output.rows, "row")} × ${counted(output.columns.length, "column")}`,
      output.cached ? "served from cache" : `processed in ${output.elapsed_s.toFixed(2)} s`,
    ].join(" · ");
    showReading(byId("result-reading"), output.reading);
    byId("downloads").replaceChildren("Download", ...this.#downloads(output));
    showIssues(byId("result-issues"), output.issues, {
      title: "Issues in the file",
      open: true,
      link: (name, text) => this.#link(name, text),
    });
    this.#profile.show(output);
    this.#showProblem(null);
    this.#table = new Grid(byId("table"), {
      columns: columnsOf(output),
      total: output.rows,
      fetch: async (offset, limit) => (await this.#client.rows(output.filename, offset, limit)).rows,
      onMove: (first, end) => {
        byId("table-position").textContent = end
          ? `Rows ${whole(first + 1)} to ${whole(end)} of ${whole(output.rows)}`
          : "No rows";
      },
      onError: (error) => this.#showProblem(error),
    });
    focusUnlessBusy(byId("result-title"), byId("progress"), byId("run"));
  }

  #downloads(output) {
    const { filename, final_filename_excel: excel } = output;
    const stem = filename.replace(/\.[^.]*$/, "");
    const names = { ...csvNames(output), Excel: excel, Parquet: filename, NDJSON: `${stem}.ndjson`, Arrow: `${stem}.arrow` };
    const limits = exceededInExcel(output);
    return Object.entries(names).map(([format, name]) => {
      if (format === "Excel" && limits) return make("span", { className: "hint" }, `Excel supports at most ${limits}`);
      const control = this.#link(name, format);
      if (HINTS[format]) control.title = HINTS[format];
      return control;
    });
  }

  /** A link or button that downloads a file. */
  #link(name, text) {
    // A link cannot send a token in a header, and a token in a URL would end up in logs.
    if (storedToken()) return button(text, ({ target }) => this.#download(name, target));
    return make("a", { href: `download/${encodeURIComponent(name)}`, download: name }, text);
  }

  /** Download over the WebSocket connection, which is authenticated. */
  async #download(name, control) {
    control.disabled = true;
    try {
      save(await this.#client.download(name).promise, name);
      this.#showProblem(null);
    } catch (error) {
      this.#showProblem(error);
    } finally {
      control.disabled = false;
    }
  }

  #showProblem(error) {
    showError(byId("table-error"), error);
    byId("table-retry").hidden = error === null;
  }
}

/** The names of the CSV files: with the cells as in the file, and with values. A typed file has no other texts. */
function csvNames({ final_filename_csv: csv, final_filename_csv_normalized: normalized, reading }) {
  if (!normalized || TYPED_FORMATS.includes(reading?.format)) return { CSV: csv };
  return { [AS_WRITTEN]: csv, [NORMALIZED]: normalized };
}

/** The columns as the grid expects them; a chart is drawn when its column becomes visible. */
function columnsOf({ columns, dtypes, profile, rows }) {
  return columns.map((name, index) => {
    const column = profile?.[index];
    let drawn;
    return {
      name,
      type: typeWord(dtypes[index]),
      numeric: isNumeric(dtypes[index]),
      note: column ? nullShare(column, rows) : "",
      chart: () => (drawn === undefined ? (drawn = column ? chart(column, rows) : null) : drawn),
    };
  });
}

