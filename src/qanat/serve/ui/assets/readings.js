// The latest reading of every sensor, as it comes, with what it was like before.

import { ask, follow } from "./api.js";
import { choose, el, empty, field, named, problem, put } from "./dom.js";
import { count, dateTime, number, time } from "./format.js";
import { columnsOf, Series, valuesOf } from "./series.js";
import { sparkline } from "./sparkline.js";
import { keyedTable } from "./table.js";

const SHOWN = 50;
const DRAW_MS = 500;
const HISTORY = 5000;
const DAY_MS = 86_400_000;

export async function show(main, station, signal) {
  const { streams } = await ask("/v1/streams", { signal });
  const usable = streams.filter((one) => one.columns.some(({ name }) => name === station.site) && valuesOf(one, station).length);
  main.replaceChildren(el("h1", {}, "Latest readings"));
  if (usable.length === 0) {
    main.append(empty(`No stream that you may read has a column ${station.site} and a column of numbers.`,
      el("p", {}, el("code", {}, "api.site"), " and ", el("code", {}, "api.sensor"), " in qanat.yaml name the columns for sites and sensors.")));
    return;
  }
  const aggregated = station.aggregates.find((one) => usable.some(({ name }) => name === one.stream))?.stream;
  const full = usable.toSorted((a, b) => (b.name === aggregated) - (a.name === aggregated) || (b.rows > 0) - (a.rows > 0));
  const page = build(main, station, full);
  let showing = new AbortController();
  async function change() {
    showing.abort();
    showing = new AbortController();
    const stream = usable.find((one) => one.name === page.stream.value);
    choose(page.value, valuesOf(stream, station));
    try {
      await showStream(page, stream, station, AbortSignal.any([signal, showing.signal]));
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 401) page.said.replaceChildren(problem(error));
    }
  }
  page.stream.addEventListener("change", change);
  page.value.addEventListener("change", change);
  await change();
}

function build(main, station, streams) {
  const page = {
    stream: el("select"), value: el("select"), site: el("select"), kind: el("select"), text: el("input", { type: "search", spellcheck: "false" }),
    state: el("p", { class: "dim", role: "status" }), said: el("div"), previous: el("button", { type: "button" }, "Previous"), next: el("button", { type: "button" }, "Next"),
    place: el("span", { class: "dim" }),
    table: keyedTable("Latest readings", [["Site", ""], ["Sensor", ""], ["Kind", ""], ["Value", "number"], ["At", ""], ["Before", ""]]),
  };
  choose(page.stream, streams.map((one) => one.name));
  main.append(el("form", { class: "row", submit: (event) => event.preventDefault() },
    field("Stream", page.stream), field("Value", page.value), field("Site", page.site), field("Kind", page.kind), field("Search", page.text)),
    page.state, page.said, page.table.node, el("div", { class: "row" }, page.previous, page.next, page.place));
  return page;
}

async function showStream(page, stream, station, signal) {
  const series = new Series({ ...columnsOf(stream, station), value: page.value.value });
  let from = 0;
  let waiting = null;
  let live = null;
  function draw() {
    waiting = null;
    if (!signal.aborted) from = drawSeries(page, series, from, live);
  }
  const soon = () => { waiting ??= setTimeout(draw, DRAW_MS); };
  const go = (step) => { from = Math.max(0, from + step); draw(); };
  const anew = () => { from = 0; draw(); };
  for (const one of [page.site, page.kind, page.text]) one.addEventListener("input", anew, { signal });
  page.previous.addEventListener("click", () => go(-SHOWN), { signal });
  page.next.addEventListener("click", () => go(SHOWN), { signal });

  const history = await ask(`/v1/streams/${encodeURIComponent(stream.name)}/rows?order=newest&limit=${HISTORY}`, { signal });
  const { sites } = await ask("/v1/sites", { signal });
  series.add(sites.flatMap((one) => one.sensors.filter((sensor) => sensor.streams.includes(stream.name)).map((sensor) => sensor.reading)));
  series.add(history.rows.reverse());
  draw();
  await follow(stream.name, { signal, onRows: (rows) => { series.add(rows); soon(); }, onState: (on) => { live = on; soon(); } });
}

function drawSeries(page, series, wanted, live) {
  choose(page.site, [["", "all"], ...series.values("site")]);
  choose(page.kind, [["", "all"], ...series.values("kind")]);
  page.kind.disabled = page.kind.options.length < 2;
  const found = series.select({ site: page.site.value, kind: page.kind.value, text: page.text.value });
  const from = Math.min(wanted, Math.max(0, Math.floor((found.length - 1) / SHOWN) * SHOWN));
  put(page.state, live === false ? "The connection is interrupted; it is tried again." : `Live. ${count(found.length)} of ${count(series.all.size)} sensors.`);
  put(page.said, found.length ? null : series.all.size
    ? empty("No sensor is like that.", el("p", {}, "Choose all sites and kinds, and clear the search."))
    : empty("No reading has come yet.", el("p", {}, el("a", { href: "/ui/register" }, "Register a site and its sensors"), "; their readings appear here by themselves.")));
  page.table.node.hidden = found.length === 0;
  page.table.update(found.slice(from, from + SHOWN).map((one) => ({ key: one.key, cells: cellsOf(one) })));
  page.previous.disabled = from === 0;
  page.next.disabled = from + SHOWN >= found.length;
  put(page.place, found.length ? `${from + 1} to ${Math.min(from + SHOWN, found.length)} of ${count(found.length)}` : "");
  return from;
}

function cellsOf(one) {
  if (one.drawn !== one.changed) {
    one.drawn = one.changed;
    one.spark = sparkline(one.points);
  }
  const when = one.last === null ? "–" : Date.now() - one.last > DAY_MS ? dateTime(one.last) : time(one.last);
  return [named(one.site), named(one.sensor), named(one.kind || "–"), number(one.value), when, one.spark];
}
