// The first page: what flows how fast, what lags behind, what is not well.

import { ask, every } from "./api.js";
import { el, empty, named, problem, put, say } from "./dom.js";
import { count, rate, span } from "./format.js";
import { keyedTable } from "./table.js";

const EVERY_MS = 2000;

export async function show(main, station, signal) {
  const health = el("div", { id: "health" });
  const streams = section("Streams", [["Stream", ""], ["Rows per second", "number"], ["Rows", "number"], ["Newest row behind the clock", "number"]]);
  const pipelines = section("Pipelines", [["Pipeline", ""], ["State", ""], ["In", "number"], ["Out", "number"], ["Lag (rows)", "number"], ["Late", "number"], ["Dead letters", "number"]]);
  main.replaceChildren(el("h1", {}, "Overview"), health, streams.node, pipelines.node);
  const speed = speedometer();
  await every(EVERY_MS, () => Promise.all([
    shown(health, () => ask("/readyz", { expected: [503], signal }), (found) => drawHealth(health, found)),
    shown(streams.said, () => ask("/v1/streams", { signal }), (found) => drawStreams(streams, found.streams, speed, station)),
    shown(pipelines.said, () => ask("/v1/pipelines", { signal }), (found) => drawPipelines(pipelines, found.pipelines, speed)),
  ]), signal);
}

function section(title, columns) {
  const table = keyedTable(title, columns);
  const said = el("div");
  table.node.hidden = true;
  return { node: el("section", { "aria-label": title }, el("h2", {}, title), said, table.node), said, table };
}

// One part that fails leaves the others as they are.
async function shown(place, get, draw) {
  try {
    draw(await get());
  } catch (error) {
    if (error.name === "AbortError" || error.status === 401) return;
    if (place.firstElementChild?.textContent !== problem(error).textContent) place.replaceChildren(problem(error));
  }
}

function drawHealth(place, found) {
  const text = found.ready ? "All parts are well." : `${found.faults.length} not well: ${found.faults.map((one) => one.part).join(", ")}`;
  if (place.dataset.said !== JSON.stringify(found)) {
    place.dataset.said = JSON.stringify(found);
    say(text);
  } else if (place.querySelector("[data-health]")) return;
  const faults = found.faults.map(({ part, fault }) => el("li", {}, el("strong", {}, named(part)), ": ", named(fault)));
  place.replaceChildren(el("div", { class: found.ready ? "card" : "problem", "data-health": found.ready ? "well" : "ill" },
    el("p", { class: found.ready ? "good" : "bad" }, found.ready ? "✓ " : "✗ ", found.ready ? text : "Not well:"),
    faults.length ? el("ul", {}, ...faults) : null));
}

function drawStreams({ said, table }, streams, speed, station) {
  const now = performance.now();
  const rows = streams.reduce((sum, one) => sum + one.rows, 0);
  put(said, streams.length === 0
    ? empty("There is no stream that you may read.", el("p", {}, "A key needs the scope ", el("code", {}, "read:STREAM"), "; a project needs a CREATE TABLE."))
    : rows === 0 ? firstRows(station) : null);
  table.node.hidden = streams.length === 0;
  table.update(streams.map((one) => {
    const end = one.partitions.reduce((sum, partition) => sum + partition.end, 0);
    return { key: one.name, cells: [named(one.name), rate(speed(`stream ${one.name}`, end, now)), count(one.rows), span(one.lag_ms)] };
  }));
}

function firstRows(station) {
  const stream = station.inputs[0]?.stream ?? "STREAM";
  return empty("No row has come yet.", el("p", {}, el("a", { href: "/ui/register" }, "Register a site and its sensors"),
    station.demanded ? "." : ", or send a row without credentials, from this machine:"),
    station.demanded ? null : el("pre", {}, `curl ${location.origin}/streams/${encodeURIComponent(stream)} -H 'content-type: application/json' -d '{"COLUMN": 1}'`));
}

function drawPipelines({ said, table }, pipelines, speed) {
  const now = performance.now();
  put(said, pipelines.length ? null : empty("The project has no pipeline.", el("p", {}, "INSERT INTO … SELECT in a file of SQL makes one.")));
  table.node.hidden = pipelines.length === 0;
  table.update(pipelines.map((one) => ({
    key: one.name,
    cells: [
      named(one.name),
      one.error === null ? el("span", { class: one.state === "failed" ? "bad" : "" }, one.state)
        : el("span", { class: "bad" }, `${one.state}: `, named(one.error)),
      rate(speed(`in ${one.name}`, one.rows_in, now)), rate(speed(`out ${one.name}`, one.rows_out, now)),
      count(one.lag), count(one.late + one.partly_late), count(one.dead_letters),
    ],
  })));
}

// How fast a count grows, per second, since it was looked at before; null the first time.
function speedometer() {
  const before = new Map();
  return (name, value, now) => {
    const last = before.get(name);
    before.set(name, { value, now });
    return last === undefined || now - last.now < 1 ? null : Math.max(0, value - last.value) / ((now - last.now) / 1000);
  };
}
