/** How a file was read, and what had to be mended in it, in words. */

import { make } from "./dom.js";
import { counted, whole } from "./format.js";

const SIGNS = { "\t": "tab", " ": "space", "": "none" };
const FORMATS = { csv: "CSV", fixed: "columns of fixed width", ndjson: "NDJSON", json: "JSON", parquet: "Parquet", arrow: "Arrow", xlsx: "Excel" };
const MENDED = {
  padded_rows: ["row", "had too few cells; the missing ones are empty"],
  cut_rows: ["row", "had too many cells; those beyond the last column are left out"],
  repaired_rows: ["row", "had stray quotes, other delimiters or broken characters"],
  unparsable_rows: ["row", "could not be read: left out"],
  unparsable_cells: ["cell", "did not fit the type of the column: left empty"],
};

/** @param {string} sign
 *  @returns {string} as it can be read, and typed */
export const signName = (sign) => SIGNS[sign] ?? sign;

/** @param {object|null|undefined} reading
 *  @returns {string} how a file was read; empty where nobody says so */
export function readingWords(reading) {
  if (!given(reading)) return "";
  const { format, compression, encoding, delimiter, quote, header, skip_rows: skipped, decimal, null_values: nulls } = reading;
  const { sheet, sheets } = reading;
  return [
    FORMATS[format] ?? format,
    compression && `inside ${compression}`,
    given(sheet) && `sheet ${sheet}${sheets?.length > 1 ? ` (one of ${whole(sheets.length)})` : ""}`,
    encoding,
    given(delimiter) && `delimiter ${signName(delimiter)}`,
    given(quote) && quote !== '"' && `quote ${signName(quote)}`,
    given(header) && (header ? counted(header, "header row") : "no header"),
    skipped ? `${counted(skipped, "row")} skipped` : null,
    decimal === "," && "decimal comma",
    nulls?.length ? `${nulls.join(", ")} for empty` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

/**
 * Show what had to be mended, or take it away.
 *
 * @param {HTMLElement} place
 * @param {object|null|undefined} issues
 * @param {object} options
 * @param {string} options.title
 * @param {boolean} options.open whether the examples are shown at once
 * @param {(function(string, string): HTMLElement)|null} options.link makes a link, given the name of a file and a text
 */
export function showIssues(place, issues, { title, open, link = null }) {
  const words = given(issues) ? mended(issues) : [];
  place.hidden = !words.length && !issues?.examples?.length && !issues?.rejects;
  place.replaceChildren();
  if (place.hidden) return;
  place.append(make("h3", {}, title), make("ul", {}, ...words.map((text) => make("li", {}, text))));
  const examples = issues.examples ?? [];
  if (examples.length) {
    const summary = make("summary", {}, examples.length === 1 ? "An example" : `The first ${whole(examples.length)} examples`);
    place.append(make("details", { open }, summary, exampleTable(examples)));
  }
  if (issues.rejects && link) place.append(make("p", { className: "tools" }, link(issues.rejects, "Download all of them")));
}

/** @param {object} issues
 *  @returns {string[]} a sentence for each kind that there is */
function mended(issues) {
  const kinds = Object.entries(MENDED).filter(([kind]) => issues[kind]);
  return kinds.map(([kind, [thing, words]]) => `${counted(issues[kind], thing)} ${words}.`);
}

function exampleTable(examples) {
  const heads = ["Line", "Column", "Value", "Why"].map((text, at) => make("th", { scope: "col", className: at ? "" : "number" }, text));
  const rows = examples.map(({ line, column, value, why }) =>
    make(
      "tr",
      {},
      make("td", { className: "number" }, given(line) ? whole(line) : "–"),
      make("td", {}, column ?? "–"),
      make("td", { className: "value" }, given(value) ? value || "(empty)" : "–"),
      make("td", {}, why),
    ),
  );
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
  return make("div", { className: "examples", tabIndex: 0, role: "region", ariaLabel: "Examples" }, table);
}

const given = (value) => value !== null && value !== undefined;
