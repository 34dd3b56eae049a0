/** The fields that say how a file is to be read, where what was found out is not right. */

import { byId, make } from "./dom.js";
import { signName } from "./reading.js";

const TEXTS = ["csv", "fixed"];
const FIELDS = { // of which formats each makes sense
  delimiter: ["csv"], quote: ["csv"], encoding: [...TEXTS, "ndjson", "json"], decimal: TEXTS, null_values: [...TEXTS, "xlsx"],
  header: [...TEXTS, "xlsx"], skip_rows: [...TEXTS, "xlsx"], sheet: ["xlsx"],
};
const WORDS = { tab: "\t", "\\t": "\t", space: " ", none: "" };

/** The fields; what is empty is found out. */
export class ReadingOptions {
  /** @param {function(): void} onChange is called when something else was chosen */
  constructor(onChange) {
    const box = byId("options");
    box.addEventListener("change", ({ target }) => target !== byId("option-strict") && this.#isValid() && onChange());
    // Enter runs the form, which should wait for what comes of the change.
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
      event.preventDefault();
      event.target.blur();
      event.target.focus();
    });
  }

  /** Begin anew with another file.
   *  @param {object|null|undefined} reading */
  reset(reading) {
    for (const name of Object.keys(FIELDS)) field(name).value = "";
    byId("option-strict").checked = false;
    byId("options").open = false;
    this.describe(reading);
  }

  /** Say in each empty field what was found out.
   *  @param {object|null|undefined} reading */
  describe(reading) {
    const fits = (name) => !reading || FIELDS[name].includes(reading.format);
    for (const name of Object.keys(FIELDS)) field(name).closest("label").hidden = !fits(name);
    const { delimiter, encoding, header, skip_rows: skipped, null_values: nulls, quote, decimal } = reading ?? {};
    const found = { delimiter: delimiter && signName(delimiter), encoding, header, skip_rows: skipped, null_values: nulls?.join(", ") };
    for (const [name, value] of Object.entries(found)) field(name).placeholder = value ?? "";
    field("quote").options[0].textContent = asFound(quote === undefined || quote === null ? null : signName(quote));
    field("decimal").options[0].textContent = asFound({ ".": "point", ",": "comma" }[decimal]);
    this.#offerSheets(reading);
    byId("options").hidden = Boolean(reading) && !Object.keys(FIELDS).some(fits);
  }

  /** @returns {object|null} `options` of a message; null where all is found out */
  read() {
    const options = {};
    for (const name of Object.keys(FIELDS)) {
      const { value } = field(name);
      if (value !== "" && !field(name).closest("label").hidden) options[name] = VALUES[name]?.(value) ?? value;
    }
    return Object.keys(options).length ? options : null;
  }

  /** @returns {boolean} whether anything that would have to be mended is to be an error */
  get strict() {
    return byId("option-strict").checked;
  }

  #isValid() {
    return Object.keys(FIELDS).every((name) => field(name).reportValidity());
  }

  #offerSheets(reading) {
    const select = field("sheet");
    const { value } = select;
    const sheets = reading?.sheets ?? [];
    const choices = sheets.map((sheet) => make("option", { value: sheet }, sheet));
    select.replaceChildren(make("option", { value: "" }, asFound(value ? null : reading?.sheet)), ...choices);
    select.value = sheets.includes(value) ? value : "";
    select.closest("label").hidden = !sheets.length;
  }
}

const VALUES = {
  delimiter: (text) => WORDS[text] ?? text,
  quote: (text) => WORDS[text] ?? text,
  header: Number,
  skip_rows: Number,
  null_values: (text) => text.split(",").map((word) => word.trim()).filter(Boolean),
};

const field = (name) => byId(`option-${name}`);

const asFound = (what) => (what ? `as found: ${what}` : "as found");
