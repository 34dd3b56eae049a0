/** Describes how a file was read and the issues that were found in it. */

import { make } from "../dom.js";
import { counted, isPresent, visible, whole } from "../format.js";

const SIGN_NAMES = { "\t": "tab", " ": "space", "": "none" };
const FORMATS = { csv: "CSV", fixed: "fixed-width text", ndjson: "NDJSON", json: "JSON", parquet: "Parquet", arrow: "Arrow", xlsx: "Excel" };
const ISSUES = {
  padded_rows: ["row", "had too few cells; the missing cells are empty"],
  cut_rows: ["row", "had too many cells; the extra cells were dropped"],
  repaired_rows: ["row", "had stray quotes, other delimiters or invalid characters (repaired)"],
  repaired_cells: ["cell", "had control characters in place of letters or signs (repaired)"],
  unparsable_rows: ["row", "could not be read (dropped)"],
  unparsable_cells: ["cell", "did not match the column type (left empty)"],
  missing_values: ["formula", "had no stored value (left empty)"],
};

/** Names of the signs that separate groups of digits. */
export const THOUSANDS = { ",": "comma", ".": "point", "'": "apostrophe", " ": "space", "\u202f": "narrow space", "\u00a0": "no-break space" };

/** @param {string|object} dates a pattern, or patterns by column
 *  @returns {string} the text that can be entered in the reading options */
export const describeDates = (dates) =>
  (typeof dates === "string" ? dates : Object.entries(dates).map((pair) => pair.join("=")).join("; "));

/** @param {string} sign delimiter or quote
 *  @returns {string} a visible name, which can also be entered in the reading options */
export const signName = (sign) => SIGN_NAMES[sign] ?? sign;

/** What the tables of a file are called from which `sheet` chooses.
 *  @param {object} reading
 *  @returns {string} */
export const placeNoun = ({ format, member }) => (isPresent(member) ? "table" : format === "json" ? "array" : "sheet");

/** @param {string} text
 *  @returns {string} */
export const capitalized = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Show how a file was read; hide the element if that is unknown.
 *  @param {HTMLElement} place
 *  @param {object|null|undefined} reading */
export function showReading(place, reading) {
  place.hidden = !isPresent(reading);
  place.textContent = isPresent(reading) ? visible(`Read as ${describeReading(reading)}`) : "";
}

function describeReading(reading) {
  const { format, compression, encoding, delimiter, quote, header, skip_rows: skipped, decimal, null_values: nulls } = reading;
  const { trailing_delimiter: trailing, footer_rows: footer, sheet, sheets, member, thousands, date_format: dates, comment } = reading;
  return [
    FORMATS[format] ?? format,
    compression && `compressed with ${compression}`,
    isPresent(member) && `${member} in the archive${sheets?.length > 1 ? ` (one of ${whole(sheets.length)} tables)` : ""}`,
    !isPresent(member) && isPresent(sheet) && `${placeNoun(reading)} ${sheet}${sheets?.length > 1 ? ` (one of ${whole(sheets.length)})` : ""}`,
    encoding,
    isPresent(delimiter) && `delimiter ${signName(delimiter)}`,
    trailing && "a delimiter ends every row",
    isPresent(quote) && quote !== '"' && `quote ${signName(quote)}`,
    isPresent(header) && (header ? counted(header, "header row") : "no header"),
    skipped ? `${counted(skipped, "row")} skipped` : null,
    footer ? `${counted(footer, "row")} below the table left out` : null,
    decimal === "," && "decimal comma",
    isPresent(thousands) && `thousands ${THOUSANDS[thousands] ?? thousands}`,
    isPresent(dates) && `dates ${describeDates(dates)}`,
    comment && `comments after ${signName(comment)}`,
    nulls?.length ? `words for a missing value: ${nulls.join(", ")}` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

/**
 * Show the issues that were found in a file; hide the element if there are none.
 *
 * @param {HTMLElement} place
 * @param {object|null|undefined} issues
 * @param {object} options
 * @param {string} options.title
 * @param {boolean} options.open whether the examples are expanded
 * @param {(function(string, string): HTMLElement)|null} options.link creates a download link, given a
 *   filename and a text
 */
export function showIssues(place, issues, { title, open, link = null }) {
  const counts = isPresent(issues) ? describeCounts(issues) : [];
  place.hidden = !counts.length && !issues?.examples?.length && !issues?.rejects;
  place.replaceChildren();
  if (place.hidden) return;
  place.append(make("h3", {}, title), make("ul", {}, ...counts.map((text) => make("li", {}, text))));
  const examples = issues.examples ?? [];
  if (examples.length) {
    const summary = make("summary", {}, examples.length === 1 ? "Example" : `First ${whole(examples.length)} examples`);
    place.append(make("details", { open }, summary, exampleTable(examples)));
  }
  if (issues.rejects && link) place.append(make("p", { className: "tools" }, link(issues.rejects, "Download all issues")));
}

/** @param {object} issues
 *  @returns {string[]} a sentence for each kind of issue that occurs */
function describeCounts(issues) {
  const kinds = Object.entries(ISSUES).filter(([kind]) => issues[kind]);
  return kinds.map(([kind, [noun, text]]) => `${counted(issues[kind], noun)} ${text}.`);
}

function exampleTable(examples) {
  const heads = ["Line", "Column", "Value", "Reason"].map((text, index) => make("th", { scope: "col", className: index ? "" : "number" }, text));
  const rows = examples.map(({ line, column, value, why }) =>
    make(
      "tr",
      {},
      make("td", { className: "number" }, isPresent(line) ? whole(line) : "–"),
      make("td", {}, column ?? "–"),
      make("td", { className: "value" }, isPresent(value) ? value || "(empty)" : "–"),
      make("td", {}, why),
    ),
  );
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
  return make("div", { className: "examples", tabIndex: 0, role: "region", ariaLabel: "Examples" }, table);
}
