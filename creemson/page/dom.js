/** Helpers that create elements. Data is always inserted as text, never as markup, and with invisible characters shown. */

import { plainWords } from "./errors.js";
import { visible } from "./format.js";

const SHOWN = ["title", "ariaLabel", "textContent"]; // properties that are shown or read aloud

/** @param {string} id
 *  @returns {HTMLElement} the element with this id */
export const byId = (id) => document.getElementById(id);

/**
 * Create an element.
 *
 * @param {string} tag
 * @param {object} properties properties to set on the element; `dataset` is merged entry by entry
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { dataset = {}, ...others } = properties;
  Object.assign(element.dataset, dataset);
  Object.assign(element, others);
  for (const name of SHOWN) if (name in others) element[name] = visible(others[name]);
  element.append(...children.map((child) => (typeof child === "string" ? visible(child) : child)));
  return element;
}

/** Create a button that does not submit a form.
 *  @param {string} text
 *  @param {function(): void} onclick
 *  @param {object} properties additional properties */
export const button = (text, onclick, properties = {}) =>
  make("button", { type: "button", className: "quiet", onclick, ...properties }, text);

const KEEP_URL = 60_000; // ms; the browser may start the download late

/** Let the browser save content as a file.
 *  @param {Blob} blob
 *  @param {string} name of the file */
export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), KEEP_URL);
}

/**
 * Show an error, or hide the previous one.
 *
 * @param {HTMLElement} place the element that shows the error
 * @param {Error|null} error null hides the element
 */
export function showError(place, error) {
  place.hidden = error === null;
  place.textContent = error === null ? "" : lines(error).map(visible).join("\n");
}

/** The message in plain words, followed by the details that it does not already contain. */
function lines({ message, details = [] }) {
  const [first, ...more] = [message, ...details].map(plainWords);
  return [first, ...more.filter((line) => !first.includes(line))];
}

/** Announce an event to screen readers.
 *  @param {string} text */
export function announce(text) {
  byId("announcements").textContent = visible(text);
}

/** Move the focus, unless the user is working elsewhere on the page.
 *  @param {HTMLElement} target
 *  @param {...HTMLElement} places elements that may lose the focus; if nothing has the focus, it is always moved */
export function focusUnlessBusy(target, ...places) {
  const active = document.activeElement ?? document.body;
  if (active === document.body || places.some((place) => place.contains(active))) target.focus();
}
