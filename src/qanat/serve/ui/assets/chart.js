// Average as a line over a band from the smallest to the largest, as SVG. Values come with it as a table, and one by one
// with the arrow keys or a pointer. Asks for nothing.

import { el, named, svg } from "./dom.js";
import { count, dateTime, number } from "./format.js";

const HEIGHT = 220;
const LEFT = 56;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;

export function bandChart(title) {
  const plot = svg("svg", { class: "chart", tabindex: "0", role: "img" });
  const read = el("p", { class: "dim", "aria-live": "polite" });
  const body = el("tbody");
  const table = el("details", {}, el("summary", {}, "As a table"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Values of ${title}` },
    el("table", {}, el("thead", {}, el("tr", {}, ...["From", "Count", "Smallest", "Average", "Largest"].map((one, at) => el("th", { scope: "col", class: at ? "number" : "" }, one)))), body)));
  const node = el("figure", { "data-chart": title }, el("figcaption", {}, named(title)), plot, read, table);
  let windows = [];
  let chosen = null;

  function draw() {
    const width = Math.max(240, plot.clientWidth || 600);
    const scale = scaleOf(windows, width);
    plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    plot.replaceChildren(...grid(scale, width), ...marks(windows, scale), ...cursor(windows[chosen], scale));
    plot.setAttribute("aria-label", summary(title, windows));
  }
  function choosePlace(place) {
    chosen = Math.min(Math.max(place, 0), windows.length - 1);
    const one = windows[chosen];
    if (one) read.textContent = `${dateTime(one.start)}: ${one.count ? `average ${number(one.avg)}, from ${number(one.min)} to ${number(one.max)}, ${count(one.count)} readings` : "no reading"}`;
    draw();
  }
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || windows.length === 0) return;
    event.preventDefault();
    choosePlace((chosen ?? windows.length) + step);
  });
  plot.addEventListener("pointermove", (event) => {
    const scale = scaleOf(windows, plot.clientWidth);
    if (windows.length) choosePlace(windows.findLastIndex((one) => scale.x(one.start) <= event.offsetX));
  });
  new ResizeObserver(draw).observe(plot);

  // `found`: windows of /v1/aggregate.
  function update(found) {
    windows = found.map((one) => ({ ...one, start: Date.parse(one.start), end: Date.parse(one.end) }));
    if (chosen !== null) chosen = Math.min(chosen, windows.length - 1);
    draw();
    if (table.open) fill();
  }
  function fill() {
    const cell = (value) => el("td", { class: "number" }, el("data", { value: value ?? "" }, number(value)));
    body.replaceChildren(...windows.filter((one) => one.count).map((one) =>
      el("tr", { "data-start": one.start }, el("th", { scope: "row" }, dateTime(one.start)), cell(one.count), cell(one.min), cell(one.avg), cell(one.max))));
  }
  table.addEventListener("toggle", () => { if (table.open) fill(); });
  return { node, update };
}

function summary(title, windows) {
  const full = windows.filter((one) => one.count);
  if (full.length === 0) return `${title}: no reading`;
  const last = full.at(-1);
  return `${title}: from ${number(Math.min(...full.map((one) => one.min)))} to ${number(Math.max(...full.map((one) => one.max)))}; last average ${number(last.avg)}. Arrow keys read the values.`;
}

function scaleOf(windows, width) {
  const full = windows.filter((one) => one.count && one.min !== null);
  const low = full.length ? Math.min(...full.map((one) => one.min)) : 0;
  const high = full.length ? Math.max(...full.map((one) => one.max)) : 1;
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  const [bottom, top] = [low - room, high + room];
  const start = windows[0]?.start ?? 0;
  const wide = (windows.at(-1)?.end ?? 1) - start || 1;
  return {
    bottom, top, start, wide, full: full.length > 0,
    x: (time) => LEFT + ((time - start) / wide) * (width - LEFT - RIGHT),
    y: (value) => TOP + ((top - value) / (top - bottom)) * (HEIGHT - TOP - BOTTOM),
  };
}

function grid(scale, width) {
  if (!scale.full) return [svg("text", { x: LEFT, y: HEIGHT / 2 }, "no reading in this range")];
  const lines = ticks(scale.bottom, scale.top, 4).flatMap((value) => [
    svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: scale.y(value), y2: scale.y(value) }),
    svg("text", { x: LEFT - 6, y: scale.y(value) + 4, "text-anchor": "end" }, number(value)),
  ]);
  const times = timeTicks(scale.start, scale.wide, Math.max(2, Math.floor(width / 110)));
  return lines.concat(times.map((at) => svg("text", { x: scale.x(at), y: HEIGHT - 6, "text-anchor": "middle" }, clock(at, scale.wide))));
}

function ticks(low, high, many) {
  const rough = (high - low) / many;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high && found.length < 20; place++) found.push(place * step);
  return found;
}

const STEPS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000].map((one) => one * 1000);

function timeTicks(start, wide, many) {
  const step = STEPS.find((one) => wide / one <= many) ?? STEPS.at(-1);
  const found = [];
  for (let at = Math.ceil(start / step) * step; at <= start + wide; at += step) found.push(at);
  return found.filter((one) => one - start > wide * 0.03 && start + wide - one > wide * 0.03);
}

function clock(at, wide) {
  const day = wide > 2 * 86_400_000;
  const options = day ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", ...(wide < 600_000 && { second: "2-digit" }), hour12: false };
  return day ? new Date(at).toLocaleDateString([], options) : new Date(at).toLocaleTimeString([], options);
}

// Windows without a reading are gaps. Each window stands at its middle.
function marks(windows, scale) {
  const found = [];
  for (const run of runs(windows)) {
    const at = (one) => scale.x((one.start + one.end) / 2).toFixed(1);
    const line = (name) => run.map((one) => `${at(one)} ${scale.y(one[name]).toFixed(1)}`);
    if (run.length === 1) {
      const [one] = run;
      found.push(svg("line", { class: "reach", x1: at(one), x2: at(one), y1: scale.y(one.min), y2: scale.y(one.max) }), svg("circle", { class: "dot", cx: at(one), cy: scale.y(one.avg), r: 3 }));
    } else {
      found.push(svg("path", { class: "band", d: `M${line("max").join("L")}L${line("min").reverse().join("L")}Z` }), svg("path", { class: "line", d: `M${line("avg").join("L")}` }));
    }
  }
  return found;
}

function runs(windows) {
  const found = [[]];
  for (const one of windows) {
    if (one.count && one.min !== null && one.avg !== null) found.at(-1).push(one);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((one) => one.length);
}

function cursor(one, scale) {
  if (!one) return [];
  const at = scale.x((one.start + one.end) / 2);
  return [svg("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM })];
}
