/** Shows the issues that were found in a file. */

import { make } from "../dom.js";
import { counted, isPresent, whole } from "../format.js";

const ISSUES = {
  padded_rows: ["row", "had too few cells; the missing cells are empty"],
  cut_rows: ["row", "had too many cells; the extra cells were dropped"],
  repaired_rows: ["row", "had stray quotes, other delimiters or invalid characters (repaired)"],
  repaired_cells: ["cell", "had control characters in place of letters or signs (repaired)"],
  unparsable_rows: ["row", "could not be read (dropped)"],
  unparsable_cells: ["cell", "did not match the column type (left empty)"],
  missing_values: ["formula", "had no stored value (left empty)"],
};

/**
 * Show the issues that were found in a file; hide the element if there are none.
 *
 * @param {HTMLElement} place
 * @param {object|null|undefined} issues
 * @param {object} options
 * @param {string} options.title
 * @param {(function(string, string): HTMLElement)|null} options.link creates a download link, given a
 *   filename and a text
 */
export function showIssues(place, issues, { title, link = null }) {
  const counts = isPresent(issues) ? describeCounts(issues) : [];
  place.hidden = !counts.length && !issues?.examples?.length && !issues?.rejects;
  place.replaceChildren();
  if (place.hidden) return;
  place.append(make("h3", {}, title), make("ul", {}, ...counts.map((text) => make("li", {}, text))));
  const examples = issues.examples ?? [];
  if (examples.length) {
    const summary = make("summary", {}, examples.length === 1 ? "Example" : `First ${whole(examples.length)} examples`);
    place.append(make("details", {}, summary, exampleTable(examples)));
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
