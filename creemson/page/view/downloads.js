/** Downloads what is shown. */

import { byId, button, make, save } from "../dom.js";
import { exceededInExcel, whole } from "../format.js";

const TYPED_FORMATS = ["parquet", "arrow"];

/** label, ending of the name in the browser, name of the server's file in an output, hint */
const FORMATS = [
  ["CSV, as in the file", "csv", (output) => output.final_filename_csv, "Cells as the file writes them"],
  ["CSV, normalized", "normalized.csv", (output) => output.final_filename_csv_normalized, "ISO dates, decimal points, true and false, nothing for missing values"],
  ["Excel", "xlsx", (output) => output.final_filename_excel, ""],
  ["Parquet", "parquet", (output) => output.filename, ""],
  ["NDJSON", "ndjson", (output) => `${stemOf(output.filename)}.ndjson`, "One JSON object in each line"],
  ["Arrow", "arrow", (output) => `${stemOf(output.filename)}.arrow`, ""],
];

const stemOf = (filename) => filename.replace(/\.[^.]*$/, "");

/** The buttons for downloads. */
export class ViewDownloads {
  #work;
  #query;
  #address;

  /** @param {import("./work.js").Work} work
   *  @param {function(): object} query returns the job whose output has what is shown
   *  @param {function(): string} address returns the address of what is shown */
  constructor(work, query, address) {
    this.#work = work;
    this.#query = query;
    this.#address = address;
  }

  /** @param {string} file whose rows are shown
   *  @param {object|null} reading how it is read
   *  @param {string} obstacle why nothing can be downloaded, in words; or "" */
  show(file, reading, obstacle) {
    const isTyped = TYPED_FORMATS.includes(reading?.format);
    const offered = FORMATS.filter(([label]) => !isTyped || label !== "CSV, normalized");
    const buttons = offered.map(([label, extension, nameOf, hint]) =>
      button(isTyped && extension === "csv" ? "CSV" : label, () => this.#download(label, file, extension, nameOf), { title: hint, disabled: obstacle !== "" }),
    );
    const note = obstacle ? [make("span", { className: "hint" }, obstacle)] : [];
    byId("view-downloads").replaceChildren("Download", ...buttons, ...note);
  }

  async #download(label, file, extension, nameOf) {
    const output = await this.#work.job(`Preparing ${label}`, this.#query(), this.#address());
    if (!output) return;
    const limits = extension === "xlsx" && exceededInExcel(output);
    if (limits) {
      return this.#work.fail(new Error(`A sheet of Excel has at most ${limits}; these are ${whole(output.rows)} rows. Set “Rows at most”, filter, or download CSV or Parquet.`));
    }
    const blob = await this.#work.download(`Writing ${label}`, nameOf(output));
    if (blob) save(blob, `${stemOf(file)}.${extension}`);
  }
}
