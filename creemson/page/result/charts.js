/** A small picture of what a column holds: a histogram, or its most frequent values. */

import { share, whole } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 138;
const HEIGHT = 28;
const WIDEST = 20; // bars of few values would otherwise be blocks

/**
 * @param {object} profile one entry of the result's `profile`
 * @param {number} rows of the result
 * @returns {SVGElement|null} null where there is nothing to draw
 */
export function picture(profile, rows) {
  const bars = profile.histogram ? binned(profile.histogram) : (profile.top ?? []);
  const most = Math.max(0, ...bars.map(([, count]) => count));
  if (!most) return null;
  const image = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none", role: "img" });
  image.append(draw("title", {}, describe(profile, rows)));
  const step = Math.min(WIDEST, WIDTH / bars.length);
  bars.forEach(([name, count], index) => {
    const height = count ? Math.max(1.5, (count / most) * (HEIGHT - 1)) : 0;
    const bar = draw("rect", { x: index * step, y: HEIGHT - height, width: step - 1, height });
    bar.append(draw("title", {}, `${name}: ${whole(count)}`));
    image.append(bar);
  });
  image.append(draw("rect", { x: 0, y: HEIGHT - 0.5, width: step * bars.length - 1, height: 0.5 }));
  return image;
}

/** @param {object} profile
 *  @param {number} rows
 *  @returns {string} how much of a column is empty */
export const emptiness = ({ nulls }, rows) => `${share(nulls, rows)} empty`;

const binned = ({ edges, counts }) => counts.map((count, index) => [`${plain(edges[index])} to ${plain(edges[index + 1])}`, count]);

/** @param {any} value of a column
 *  @returns {string} in few digits; a day without its midnight */
export const plain = (value) =>
  typeof value === "number" ? String(Number(value.toPrecision(6))) : String(value).replace(/^(\d{4}-\d\d-\d\d)T/, "$1 ").replace(/ 00:00:00$/, "");

/** @param {object} profile
 *  @param {number} rows
 *  @returns {[string, string][]} the figures by their names, those that there are */
export function figures(profile, rows) {
  const { dtype, nulls, distinct, min, max, mean, std, quantiles, histogram, top } = profile;
  const described = top ? rows - nulls : (histogram?.counts ?? []).reduce((sum, count) => sum + count, 0);
  const measured = /^(List|Binary)/.test(dtype) ? " length" : "";
  const unit = dtype.startsWith("Duration") ? " s" : "";
  const found = [];
  if (given(min)) found.push([`Least${measured}`, `${plain(min)}${unit}`]);
  if (quantiles) {
    found.push([`Median${measured}`, `${plain(quantiles["0.5"])}${unit}`]);
    found.push(["Middle half", `${plain(quantiles["0.25"])}${unit} to ${plain(quantiles["0.75"])}${unit}`]);
  }
  if (given(max)) found.push([`Greatest${measured}`, `${plain(max)}${unit}`]);
  if (given(mean)) found.push([`Mean${measured}`, plain(mean)]);
  if (given(std)) found.push(["Deviation", plain(std)]);
  if (given(distinct) && distinct) found.push(["Distinct", top ? whole(distinct) : `about ${whole(distinct)}`]);
  if (given(distinct) && described < rows - nulls) {
    found.push([/^Float/.test(dtype) ? "Not finite" : "Out of range", whole(rows - nulls - described)]);
  }
  return found;
}

/** The figures in words, for those who point at the picture or cannot see it. */
function describe(profile, rows) {
  const lines = [emptiness(profile, rows), ...figures(profile, rows).map(([name, text]) => `${name}: ${text}`)];
  for (const [value, count] of (profile.top ?? []).slice(0, 5)) lines.push(`${value}: ${whole(count)}`);
  return lines.join("\n");
}

const given = (value) => value !== null && value !== undefined;

function draw(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
