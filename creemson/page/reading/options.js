/** The fields that override how a file is read where the detection is wrong. */

import { byId, make, showError } from "../dom.js";
import { isPresent, visible } from "../format.js";
import { THOUSANDS, capitalized, describeDates, describeReading, placeNoun, signName } from "./words.js";

const TEXT_FORMATS = ["csv", "fixed"];
const FIELDS = { // the formats that each option applies to
  delimiter: ["csv"], quote: ["csv"], encoding: TEXT_FORMATS, decimal: TEXT_FORMATS,
  thousands: TEXT_FORMATS, date_format: TEXT_FORMATS, comment: TEXT_FORMATS,
  null_values: [...TEXT_FORMATS, "xlsx"], header: [...TEXT_FORMATS, "xlsx"], skip_rows: [...TEXT_FORMATS, "xlsx"],
  sheet: ["xlsx", "json"],
};
const NAMED_SIGNS = { tab: "\t", "\\t": "\t", space: " ", none: "" };
const PARSERS = {
  delimiter: (text) => NAMED_SIGNS[text] ?? text,
  quote: (text) => NAMED_SIGNS[text] ?? text,
  comment: (text) => NAMED_SIGNS[text] ?? text,
  date_format: datePatterns,
  header: Number,
  skip_rows: Number,
  null_values: (text) => text.split(",").map((word) => word.trim()).filter(Boolean),
};

const WRITERS = {
  delimiter: signName,
  quote: (sign) => (sign === "" ? "none" : sign),
  comment: signName,
  date_format: describeDates,
  header: Number, // true is one row, false is none
  null_values: (words) => words.join(", "),
};

/** The reading options; empty fields are detected automatically. */
export class ReadingOptions {
  #others = {}; // options that have no field here, such as types
  #revision = 0; // counts changes; only the error of the latest is shown

  /** @param {function(object|null): Promise<void>} reread reads the open file with these options; rejects if it cannot be read so
   *  @param {function(boolean): void} onStrict called when that is switched */
  constructor(reread, onStrict) {
    byId("option-strict").onchange = ({ target }) => onStrict(target.checked);
    byId("options").addEventListener("change", ({ target }) => target !== byId("option-strict") && this.#isValid() && this.#change(reread));
  }

  /** Fill all fields.
   *  @param {object|null|undefined} reading how the file is read
   *  @param {object|null} options those that are not detected
   *  @param {boolean} strict whether malformed data is an error instead of being repaired */
  show(reading, options, strict) {
    this.#revision += 1;
    this.#others = Object.fromEntries(Object.entries(options ?? {}).filter(([name]) => !(name in FIELDS)));
    const given = (name) => (isPresent(options?.[name]) ? (WRITERS[name]?.(options[name]) ?? options[name]) : "");
    // The answer to an earlier change must not replace what is being typed.
    const isTyped = (name) => field(name) === document.activeElement;
    for (const name of Object.keys(FIELDS)) if (name !== "sheet" && !isTyped(name)) field(name).value = given(name);
    byId("option-strict").checked = strict;
    byId("view-reading").textContent = reading ? visible(describeReading(reading)) : "";
    byId("options").ariaBusy = "false";
    showError(byId("options-error"), null);
    this.#showDetected(reading);
    this.#showSheets(reading, given("sheet"));
  }

  async #change(reread) {
    const revision = (this.#revision += 1);
    byId("options").ariaBusy = "true";
    try {
      await reread(this.#read());
    } catch (error) {
      if (revision !== this.#revision) return;
      showError(byId("options-error"), error);
      byId("options").ariaBusy = "false";
    }
  }

  /** Show the detected value in each empty field, and hide the fields that do not apply to the format. */
  #showDetected(reading) {
    const applies = (name) => !reading || FIELDS[name].includes(reading.format);
    for (const name of Object.keys(FIELDS)) field(name).closest("label").hidden = !applies(name);
    const { delimiter, encoding, header, skip_rows: skipped, null_values: nulls, quote, decimal } = reading ?? {};
    const { thousands, date_format: dates, comment } = reading ?? {};
    const found = {
      delimiter: delimiter && signName(delimiter), encoding, header, skip_rows: skipped, null_values: nulls?.join(", "),
      date_format: isPresent(dates) ? describeDates(dates) : "", comment: isPresent(comment) ? signName(comment) : "",
    };
    for (const [name, value] of Object.entries(found)) field(name).placeholder = value ?? "";
    field("quote").options[0].textContent = detected(isPresent(quote) ? signName(quote) : null);
    field("decimal").options[0].textContent = detected({ ".": "point", ",": "comma" }[decimal]);
    field("thousands").options[0].textContent = detected(THOUSANDS[thousands]);
    byId("options").hidden = Boolean(reading) && !Object.keys(FIELDS).some(applies) && !reading.sheets?.length;
  }

  /** @returns {object|null} `options` of a message; null if everything is detected */
  #read() {
    const options = { ...this.#others };
    for (const name of Object.keys(FIELDS)) {
      const { value } = field(name);
      if (value !== "" && !field(name).closest("label").hidden) options[name] = PARSERS[name]?.(value) ?? value;
    }
    return Object.keys(options).length ? options : null;
  }

  #isValid() {
    return Object.keys(FIELDS).every((name) => field(name).reportValidity());
  }

  #showSheets(reading, given) {
    const select = field("sheet");
    const sheets = reading?.sheets ?? [];
    const choices = sheets.map((sheet) => make("option", { value: sheet }, sheet));
    // Which table of an archive is meant cannot be detected.
    const isOpen = !reading?.member || sheets.length < 2;
    if (isOpen) choices.unshift(make("option", { value: "" }, detected(given ? null : reading?.sheet)));
    select.replaceChildren(...choices);
    select.value = sheets.includes(given) ? given : isOpen ? "" : reading.sheet;
    const label = select.closest("label");
    label.hidden = !sheets.length;
    label.firstChild.textContent = `${reading ? capitalized(placeNoun(reading)) : ""} `;
  }
}

/** @param {string} text a pattern, or `column=pattern; column=pattern`
 *  @returns {string|object} `date_format` of a message */
function datePatterns(text) {
  if (!text.includes("=")) return text;
  return Object.fromEntries(text.split(";").filter((pair) => pair.trim()).map((pair) => {
    const at = pair.lastIndexOf("=");
    return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  }));
}

const field = (name) => byId(`option-${name}`);

const detected = (value) => (value ? `detected: ${value}` : "detect automatically");
