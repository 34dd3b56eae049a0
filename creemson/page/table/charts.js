/** Draws a small chart of a column: a histogram, or the counts of its most frequent values. */

import { exactJson, isPresent, share, visible, whole } from "../format.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 138;
const HEIGHT = 28;
const MAX_BAR_WIDTH = 20; // a few values would otherwise fill the chart with wide blocks

/**
 * @param {object} column one entry of the result's `profile`
 * @param {number} rows of the result
 * @returns {SVGElement|null} null if there is nothing to draw
 */
export function chart(column, rows) {
  const bars = column.histogram ? bins(column.histogram) : (column.top ?? []);
  const highest = Math.max(0, ...bars.map(([, count]) => count));
  if (!highest) return null;
  const image = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none", role: "img" });
  image.append(draw("title", {}, describe(column, rows)));
  const step = Math.min(MAX_BAR_WIDTH, WIDTH / bars.length);
  bars.forEach(([name, count], index) => {
    const height = count ? Math.max(1.5, (count / highest) * (HEIGHT - 1)) : 0;
    const bar = draw("rect", { x: index * step, y: HEIGHT - height, width: step - 1, height });
    bar.append(draw("title", {}, `${name}: ${whole(count)}`));
    image.append(bar);
  });
  image.append(draw("rect", { x: 0, y: HEIGHT - 0.5, width: step * bars.length - 1, height: 0.5 }));
  return image;
}

/** @param {object} column one entry of the result's `profile`
 *  @param {number} rows
 *  @returns {string} the share of nulls */
export const nullShare = ({ nulls }, rows) => `${share(nulls, rows)} missing`;

const bins = ({ edges, counts }) => counts.map((count, index) => [`${plain(edges[index])} to ${plain(edges[index + 1])}`, count]);

/** @param {any} value of a column
 *  @returns {string} numbers with at most six digits; dates without a midnight time */
export function plain(value) {
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (typeof value === "object") return value === null ? "(missing)" : exactJson(value);
  return String(value).replace(/^(\d{4}-\d\d-\d\d)T/, "$1 ").replace(/ 00:00:00$/, "");
}

/** @param {object} column one entry of the result's `profile`
 *  @param {number} rows
 *  @returns {[string, string][]} names and values of the available figures */
export function figures(column, rows) {
  const { dtype, nulls, distinct, min, max, mean, std, quantiles, histogram, top } = column;
  const counted = top ? rows - nulls : (histogram?.counts ?? []).reduce((sum, count) => sum + count, 0);
  const measure = /^(List|Binary)/.test(dtype) ? " length" : "";
  const unit = dtype.startsWith("Duration") ? " s" : "";
  const found = [];
  if (isPresent(min)) found.push([`Min${measure}`, `${plain(min)}${unit}`]);
  if (quantiles) {
    found.push([`Median${measure}`, `${plain(quantiles["0.5"])}${unit}`]);
    found.push(["Quartiles", `${plain(quantiles["0.25"])}${unit} to ${plain(quantiles["0.75"])}${unit}`]);
  }
  if (isPresent(max)) found.push([`Max${measure}`, `${plain(max)}${unit}`]);
  if (isPresent(mean)) found.push([`Mean${measure}`, plain(mean)]);
  if (isPresent(std)) found.push(["Std. deviation", plain(std)]);
  if (isPresent(distinct) && distinct) found.push(["Distinct", top ? whole(distinct) : `about ${whole(distinct)}`]);
  if (isPresent(distinct) && counted < rows - nulls) {
    found.push([/^Float/.test(dtype) ? "Not finite" : "Out of range", whole(rows - nulls - counted)]);
  }
  return found;
}

/** The figures as text, for the tooltip and for screen readers. */
function describe(column, rows) {
  const lines = [nullShare(column, rows), ...figures(column, rows).map(([name, text]) => `${name}: ${text}`)];
  for (const [value, count] of (column.top ?? []).slice(0, 5)) lines.push(`${plain(value)}: ${whole(count)}`);
  return lines.join("\n");
}

/** @param {string} tag of SVG
 *  @param {object} attributes
 *  @param {string} [text]
 *  @returns {SVGElement} */
export function draw(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = visible(text);
  return element;
}
