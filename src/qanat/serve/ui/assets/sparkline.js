// A line without axes, as large as a word. For eyes only: the numbers stand beside it.

import { svg } from "./dom.js";

const WIDTH = 110;
const HEIGHT = 26;
const EDGE = 3;

// `points`: [time, value], in order of time.
export function sparkline(points) {
  const node = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  if (points.length === 0) return node;
  const values = points.map(([, value]) => value);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const first = points[0][0];
  const wide = points.at(-1)[0] - first || 1;
  const x = (time) => EDGE + ((time - first) / wide) * (WIDTH - 2 * EDGE);
  const y = (value) => (high === low ? HEIGHT / 2 : HEIGHT - EDGE - ((value - low) / (high - low)) * (HEIGHT - 2 * EDGE));
  const path = points.map(([time, value], at) => `${at ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const [time, value] = points.at(-1);
  node.append(svg("path", { d: path }), svg("circle", { cx: x(time), cy: y(value), r: 2 }));
  return node;
}
