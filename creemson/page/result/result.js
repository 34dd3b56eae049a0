/** What came of a run: figures, downloads, and the rows. */

import { button, byId, focusUnlessBusy, make, showError } from "./dom.js";
import { counted, whole } from "./format.js";
import { Glance } from "./glance.js";
import { emptiness, picture } from "./pictures.js";
import { readingWords, showIssues } from "./reading.js";
import { givenToken } from "./signin.js";
import { ResultTable } from "./table.js";

const SHEET = { rows: 1_048_575, columns: 16_384 }; // what Excel can hold, below the names

/** The result of the latest run. */
export class Result {
  #client;
  #table = null;
  #glance = new Glance();

  /** @param {import("./creemson.js").Client} client */
  constructor(client) {
    this.#client = client;
    byId("table-retry").onclick = () => this.#table?.retry();
  }

  /** Put it away. */
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
      output.cached ? "answered from store" : `processed in ${output.elapsed_s.toFixed(2)} s`,
    ].join(" · ");
    const words = readingWords(output.reading);
    byId("result-reading").hidden = !words;
    byId("result-reading").textContent = words && `Read as ${words}`;
    byId("downloads").replaceChildren("Download", ...this.#downloads(output));
    showIssues(byId("result-issues"), output.issues, {
      title: "Mended in the file",
      open: true,
      link: (name, text) => this.#link(name, text),
    });
    this.#glance.show(output);
    this.#tell(null);
    this.#table = new ResultTable(byId("table"), {
      columns: columnsOf(output),
      total: output.rows,
      fetch: async (offset, limit) => (await this.#client.rows(output.filename, offset, limit)).rows,
      onMove: (first, end) => {
        byId("table-position").textContent = end
          ? `Rows ${whole(first + 1)} to ${whole(end)} of ${whole(output.rows)}`
          : "No rows";
      },
      onError: (error) => this.#tell(error),
    });
    focusUnlessBusy(byId("result-title"), byId("progress"), byId("run"));
  }

  #downloads({ filename, final_filename_csv: csv, final_filename_excel: excel, rows, columns }) {
    const stem = filename.replace(/\.[^.]*$/, "");
    const names = { CSV: csv, Excel: excel, Parquet: filename, NDJSON: `${stem}.ndjson`, Arrow: `${stem}.arrow` };
    const tooLarge = rows > SHEET.rows || columns.length > SHEET.columns;
    return Object.entries(names).map(([format, name]) => {
      if (format === "Excel" && tooLarge) {
        const most = `Excel holds ${whole(SHEET.rows)} rows and ${whole(SHEET.columns)} columns at most`;
        return make("span", { className: "hint" }, most);
      }
      return this.#link(name, format);
    });
  }

  /** What downloads a file. */
  #link(name, text) {
    // A link cannot say who asks, and a token in an address would end up in logs.
    if (givenToken()) return button(text, ({ target }) => this.#fetch(name, target));
    return make("a", { href: `download/${encodeURIComponent(name)}`, download: name }, text);
  }

  /** Download over the connection, which has proved who we are. */
  async #fetch(name, control) {
    control.disabled = true;
    try {
      const href = URL.createObjectURL(await this.#client.download(name).promise);
      make("a", { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), 60_000); // the browser may take a while to begin
      this.#tell(null);
    } catch (error) {
      this.#tell(error);
    } finally {
      control.disabled = false;
    }
  }

  #tell(error) {
    showError(byId("table-error"), error);
    byId("table-retry").hidden = error === null;
  }
}

/** The columns as the table wants them; pictures are drawn when their column comes in sight. */
function columnsOf({ columns, dtypes, profile, rows }) {
  return columns.map((name, index) => {
    const facts = profile?.[index];
    let drawn;
    return {
      name,
      dtype: dtypes[index],
      note: facts ? emptiness(facts, rows) : "",
      picture: () => (drawn === undefined ? (drawn = facts ? picture(facts, rows) : null) : drawn),
    };
  });
}

