/** A small picture of what a column holds: a histogram, or its most frequent values. */

import { whole } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 138;
const HEIGHT = 28;

/**
 * @param {object} profile one entry of the result's `profile`
 * @param {number} rows of the result
 * @returns {SVGElement|null} null where there is nothing to draw
 */
export function picture(profile, rows) {
  const counts = profile.histogram?.counts ?? profile.top?.map(([, count]) => count) ?? [];
  const most = Math.max(0, ...counts);
  if (!most) return null;
  const image = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  image.append(draw("title", {}, describe(profile, rows)));
  const step = WIDTH / counts.length;
  counts.forEach((count, index) => {
    const height = count ? Math.max(1, (count / most) * HEIGHT) : 0;
    image.append(draw("rect", { x: index * step, y: HEIGHT - height, width: Math.max(1, step - 1), height }));
  });
  return image;
}

/** The figures in words, for those who point at the picture or cannot see it. */
export function describe(profile, rows) {
  const lines = [`${share(profile.nulls, rows)} empty`];
  if (profile.distinct !== null) lines.push(`about ${whole(profile.distinct)} distinct values`);
  if (profile.min !== null) lines.push(`from ${profile.min} to ${profile.max}`);
  if (profile.mean !== null) lines.push(`mean ${Number(profile.mean.toPrecision(6))}`);
  for (const [value, count] of (profile.top ?? []).slice(0, 5)) lines.push(`${value}: ${whole(count)}`);
  return lines.join("\n");
}

/** @returns {string} how much of a column is empty; "" if nothing is */
export const emptiness = ({ nulls }, rows) => (nulls ? `${share(nulls, rows)} empty` : "");

function share(part, all) {
  const percent = all ? (100 * part) / all : 0;
  return `${percent > 0 && percent < 1 ? "under 1" : Math.round(percent)} %`;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
