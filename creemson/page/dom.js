/** Small helpers for making elements; data goes in as text, never as markup. */

/** @param {string} id
 *  @returns {HTMLElement} the element of this page */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 *
 * @param {string} tag
 * @param {object} properties set on the element; `dataset` entry by entry
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  const { dataset = {}, ...others } = properties;
  Object.assign(element.dataset, dataset);
  Object.assign(element, others);
  element.append(...children);
  return element;
}

/** A button that does not submit.
 *  @param {string} text
 *  @param {function(): void} onclick
 *  @param {object} properties more of them */
export const button = (text, onclick, properties = {}) =>
  make("button", { type: "button", className: "quiet", onclick, ...properties }, text);

/**
 * Show an error where it belongs, or take it away.
 *
 * @param {HTMLElement} place
 * @param {Error|null} error
 */
export function showError(place, error) {
  place.hidden = error === null;
  place.textContent = error === null ? "" : lines(error).join("\n");
}

/** The message, and the details that it does not already hold. */
const lines = ({ message, details = [] }) => [message, ...details.filter((detail) => !message.includes(detail))];

/** Tell those who cannot see it that something has happened.
 *  @param {string} text */
export function announce(text) {
  byId("announcements").textContent = text;
}

/** Move the focus, but not away from somebody who is busy elsewhere.
 *  @param {HTMLElement} target
 *  @param {...HTMLElement} places from which it may be taken, besides none */
export function focusUnlessBusy(target, ...places) {
  const active = document.activeElement ?? document.body;
  if (active === document.body || places.some((place) => place.contains(active))) target.focus();
}
