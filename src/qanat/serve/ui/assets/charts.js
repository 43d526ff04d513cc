// A chart for each kind (or whatever rows are grouped by): smallest, largest and average of every window.

import { ask, follow, pause, serverNow } from "./api.js";
import { bandChart } from "./chart.js";
import { choose, el, empty, field, problem, put } from "./dom.js";
import { count } from "./format.js";

const S = 1000;
const MIN = 60 * S;
const H = 60 * MIN;
const D = 24 * H;
const RANGES = [[15 * MIN, "15 minutes"], [H, "1 hour"], [6 * H, "6 hours"], [D, "24 hours"], [7 * D, "7 days"], [30 * D, "30 days"]];
const WINDOWS = [[S, "1 s"], [5 * S, "5 s"], [15 * S, "15 s"], [MIN, "1 min"], [5 * MIN, "5 min"], [15 * MIN, "15 min"], [H, "1 h"], [6 * H, "6 h"], [D, "1 d"]];
const FEWEST = 8;
const MOST = 400;
const USUAL = 90;
const MOST_CHARTS = 24;
const NEW_MS = 1500; // after new rows
const OLD_MS = 15_000; // without any, since time goes on

export async function show(main, station, signal) {
  main.replaceChildren(el("h1", {}, "Charts"));
  if (station.aggregates.length === 0) {
    main.append(empty("No aggregate is declared, or none that you may read.", el("p", {}, "In qanat.yaml, then start qanat up again:"),
      el("pre", {}, "serve:\n  aggregates:\n    readings:\n      stream: readings\n      value: v\n      dimensions: [site, sensor, kind]")));
    return;
  }
  const page = build(main, station);
  const { sites } = await ask("/v1/sites", { signal });
  let showing = new AbortController();
  async function change() {
    showing.abort();
    showing = new AbortController();
    const aggregate = station.aggregates.find((one) => one.name === page.aggregate.value);
    settle(page, aggregate, sites, station);
    page.charts.replaceChildren();
    try {
      await keepDrawing(page, aggregate, station, AbortSignal.any([signal, showing.signal]));
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 401) page.said.replaceChildren(problem(error));
    }
  }
  for (const one of [page.aggregate, page.by, page.site, page.range, page.width]) one.addEventListener("change", change);
  await change();
}

function build(main, station) {
  const page = { aggregate: el("select"), by: el("select"), site: el("select"), range: el("select"), width: el("select"), state: el("p", { class: "dim", role: "status" }), said: el("div"), charts: el("div", { class: "charts" }) };
  choose(page.aggregate, station.aggregates.map((one) => one.name));
  choose(page.range, RANGES);
  page.range.value = H;
  main.append(el("form", { class: "row", submit: (event) => event.preventDefault() },
    field("Aggregate", page.aggregate), field("A chart for each", page.by), field("Site", page.site), field("Range", page.range), field("Window", page.width)),
    page.state, page.said, page.charts);
  return page;
}

// What can be chosen depends on what was chosen.
function settle(page, aggregate, sites, station) {
  const kindFirst = aggregate.dimensions.toSorted((a, b) => (b === "kind") - (a === "kind"));
  choose(page.by, [...kindFirst, ["", "nothing: one chart"]]);
  const has = aggregate.dimensions.includes(station.site);
  choose(page.site, [["", "all"], ...(has ? sites.map((one) => one.site) : [])]);
  page.site.disabled = !has;
  const range = Number(page.range.value);
  const possible = WINDOWS.filter(([width]) => range / width >= FEWEST && range / width <= MOST);
  const before = Number(page.width.value);
  choose(page.width, possible);
  if (!possible.some(([width]) => width === before)) page.width.value = possible.find(([width]) => range / width <= USUAL)[0];
}

async function keepDrawing(page, aggregate, station, signal) {
  let wake = () => {};
  let changed = false;
  const onRows = () => { changed = true; wake(); };
  const rows = follow(aggregate.stream, { signal, onRows, onState: () => {} });
  rows.catch(() => {}); // reported below, by the race
  const charts = new Map();
  while (!signal.aborted) {
    changed = false;
    if (!document.hidden) await draw(page, aggregate, station, charts, signal);
    const woken = new Promise((resolve) => { wake = resolve; });
    if (!changed) await Promise.race([rows, woken, pause(OLD_MS, signal)]);
    await pause(NEW_MS, signal);
  }
}

// Whole windows of the clock; the last one is still growing.
function question(page, station) {
  const [range, width] = [Number(page.range.value), Number(page.width.value)];
  const to = Math.ceil(serverNow() / S) * S;
  const from = Math.ceil((to - range) / width) * width;
  const asked = new URLSearchParams({ window: `${width / S} s`, from, to, align: "clock", functions: "count,min,max,avg" });
  if (page.by.value) asked.set("by", page.by.value);
  if (page.site.value) asked.set(station.site, page.site.value);
  return asked;
}

async function draw(page, aggregate, station, charts, signal) {
  const asked = question(page, station);
  const found = await ask(`/v1/aggregate/${encodeURIComponent(aggregate.name)}?${asked}`, { signal }).catch((error) => {
    if (error.status !== 0 && error.status !== 429 && error.status !== 503) throw error;
    page.said.replaceChildren(problem(error));
    return null;
  });
  if (found === null || signal.aborted) return;
  const shown = found.groups.filter((one) => one.windows.some((window) => window.count)).slice(0, MOST_CHARTS);
  const titles = new Set(shown.map((one) => titleOf(one, page)));
  for (const [title, chart] of charts) {
    if (!titles.has(title)) {
      chart.node.remove();
      charts.delete(title);
    }
  }
  for (const group of shown) {
    const title = titleOf(group, page);
    if (!charts.has(title)) {
      charts.set(title, bandChart(title));
      page.charts.append(charts.get(title).node);
    }
    charts.get(title).update(group.windows);
  }
  page.charts.dataset.asked = `/v1/aggregate/${encodeURIComponent(aggregate.name)}?${asked}`;
  put(page.state, `${count(found.rows)} readings. Line: average; band: smallest to largest${found.groups.length > MOST_CHARTS ? `; the first ${MOST_CHARTS} of ${count(found.groups.length)} charts: choose a site, or another grouping` : ""}`);
  put(page.said, shown.length ? null : empty("There is no reading in this range.", el("p", {}, "Choose a longer range, or ", el("a", { href: "/ui/register" }, "register a sensor"), ".")));
}

function titleOf(group, page) {
  const [value] = Object.values(group.by);
  return page.by.value ? String(value ?? `without ${page.by.value}`) : page.aggregate.value;
}
