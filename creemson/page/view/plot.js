/** Draws two columns as bars, a line or points, and saves the picture. */

import { button, byId, make, save, showError } from "../dom.js";
import { isNumeric, whole } from "../format.js";
import { draw, plain } from "../table/charts.js";

const NS = "http://www.w3.org/2000/svg";
const MAX_WIDTH = 720; // px
const MIN_WIDTH = 280; // px
const HEIGHT = 360; // px
const [LEFT, BOTTOM, TOP, RIGHT] = [70, 56, 16, 16]; // px around the drawing
const MAX_ROWS = { bars: 40, line: 1000, points: 1000 };
const TICKS = 6; // about
const MAX_LABEL = 14; // characters, below the drawing
const CHARACTER = 6.5; // px, of a label
const SCALE = 2; // of a PNG
const COLOR = "#c9546b"; // also in the saved file, on any ground
const INK = "#67625b";

const KINDS = { bars: "bars", line: "a line", points: "points" };

/** The chart above the rows. */
export class Plot {
  #rows; // returns the first rows as values
  #columns = [];

  /** @param {function(number): Promise<any[][]>} rows returns the first rows of the view, as values, given their number */
  constructor(rows) {
    this.#rows = rows;
    byId("plot").addEventListener("toggle", () => this.draw());
    for (const name of ["kind", "across", "up"]) byId(`plot-${name}`).onchange = () => this.draw();
    byId("plot-kind").replaceChildren(...Object.entries(KINDS).map(([value, text]) => make("option", { value }, text)));
    byId("plot-tools").append(button("Save as SVG", () => this.#saveSvg()), button("Save as PNG", () => this.#savePng()));
  }

  /** @param {{name: string, dtype: string}[]} columns of the view */
  show(columns) {
    const names = JSON.stringify(columns.map(({ name }) => name));
    if (names !== JSON.stringify(this.#columns.map(({ name }) => name))) {
      const numbers = columns.filter(({ dtype }) => isNumeric(dtype));
      const across = columns.find(({ dtype }) => !isNumeric(dtype)) ?? columns[0];
      fill("across", columns, across);
      fill("up", numbers, numbers.find((column) => column !== across) ?? numbers[0]);
    }
    this.#columns = columns;
    byId("plot").hidden = !columns.some(({ dtype }) => isNumeric(dtype));
    this.draw();
  }

  /** Draw what is chosen, if the chart is open. */
  async draw() {
    if (!byId("plot").open || byId("plot").hidden) return;
    const kind = byId("plot-kind").value;
    const [across, up] = ["across", "up"].map((name) => this.#columns.findIndex((column) => column.name === byId(`plot-${name}`).value));
    try {
      const rows = await this.#rows(MAX_ROWS[kind]);
      const points = rows.map((row) => [row[across], row[up]]).filter(([, value]) => typeof value === "number" || typeof value === "bigint");
      const title = `${this.#columns[up].name} by ${this.#columns[across].name}`;
      const width = Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, byId("plot-picture").clientWidth));
      const numbers = points.map(([name, value]) => [name, Number(value)]);
      byId("plot-picture").replaceChildren(picture(kind, numbers, isNumeric(this.#columns[across].dtype), title, width));
      byId("plot-note").textContent = rows.length === MAX_ROWS[kind] ? `The first ${whole(rows.length)} rows.` : "";
      showError(byId("plot-error"), null);
    } catch (error) {
      if (error.reason !== "cancelled") showError(byId("plot-error"), error);
    }
  }

  #source() {
    return new XMLSerializer().serializeToString(byId("plot-picture").firstChild);
  }

  #saveSvg() {
    save(new Blob([this.#source()], { type: "image/svg+xml" }), "chart.svg");
  }

  async #savePng() {
    const image = new Image();
    image.src = `data:image/svg+xml,${encodeURIComponent(this.#source())}`;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.width * SCALE, height: image.height * SCALE });
    const context = canvas.getContext("2d");
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => save(blob, "chart.png"));
  }
}

function fill(name, columns, chosen) {
  byId(`plot-${name}`).replaceChildren(...columns.map((column) => make("option", { value: column.name, selected: column === chosen }, column.name)));
}

/** @param {"bars"|"line"|"points"} kind
 *  @param {[any, number][]} points
 *  @param {boolean} isScale whether the values across are numbers, which have their distances
 *  @param {string} title
 *  @param {number} width px
 *  @returns {SVGElement} */
function picture(kind, points, isScale, title, width) {
  const image = draw("svg", { xmlns: NS, viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "font-family": "system-ui, sans-serif", "font-size": 12, fill: INK });
  image.append(draw("title", {}, title));
  if (!points.length) return image;
  const values = points.map(([, value]) => value);
  const [low, high] = [Math.min(...values, ...(kind === "bars" ? [0] : [])), Math.max(...values, ...(kind === "bars" ? [0] : []))];
  const y = (value) => TOP + (1 - (value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const inner = width - LEFT - RIGHT;
  const places = isScale && kind !== "bars" ? points.map(([at]) => Number(at)) : null;
  const [first, last] = places ? [Math.min(...places), Math.max(...places)] : [0, 0];
  const x = (index) => (places ? LEFT + ((places[index] - first) / (last - first || 1)) * inner : LEFT + ((index + 0.5) / points.length) * inner);
  for (const value of ticks(low, high)) {
    image.append(
      draw("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), stroke: INK, "stroke-opacity": 0.25 }),
      draw("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, plain(value)),
    );
  }
  const labels = points.map(([name]) => short(plain(name)));
  const thickest = (Math.max(...labels.map((label) => label.length)) + 1) * CHARACTER;
  const every = Math.max(1, Math.ceil((points.length * thickest) / inner));
  points.forEach(([name, value], index) => {
    const hint = draw("title", {}, `${plain(name)}: ${plain(value)}`);
    if (kind === "bars") {
      const thick = Math.max(1, (inner / points.length) * 0.8);
      const bar = draw("rect", { x: x(index) - thick / 2, width: thick, y: Math.min(y(value), y(0)), height: Math.max(0.5, Math.abs(y(value) - y(0))), fill: COLOR });
      bar.append(hint);
      image.append(bar);
    } else if (kind === "points") {
      const point = draw("circle", { cx: x(index), cy: y(value), r: 3, fill: COLOR, "fill-opacity": 0.7 });
      point.append(hint);
      image.append(point);
    }
    if (index % every === 0) image.append(draw("text", { x: x(index), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, labels[index]));
  });
  if (kind === "line") {
    const order = places ? points.map((_, index) => index).toSorted((one, other) => places[one] - places[other]) : points.map((_, index) => index);
    const way = order.map((index, at) => `${at ? "L" : "M"}${x(index).toFixed(1)} ${y(points[index][1]).toFixed(1)}`).join("");
    image.append(draw("path", { d: way, fill: "none", stroke: COLOR, "stroke-width": 2 }));
  }
  image.append(draw("text", { x: LEFT + inner / 2, y: HEIGHT - 8, "text-anchor": "middle", "font-weight": 600 }, title));
  return image;
}

const short = (text) => (text.length > MAX_LABEL ? `${text.slice(0, MAX_LABEL - 1)}…` : text);

/** Round numbers between two others. */
function ticks(low, high) {
  const about = (high - low || 1) / TICKS;
  const power = 10 ** Math.floor(Math.log10(about));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= about) * power;
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}
