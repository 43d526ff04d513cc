// What is known of each sensor: its last reading and a few before. Takes rows; draws nothing.

import { instant } from "./format.js";

const POINTS = 40;

// `columns`: {site, sensor, time, value, kind}; `sensor`, `time`, `kind` may be null.
export class Series {
  constructor(columns) {
    this.columns = columns;
    this.all = new Map();
  }

  add(rows) {
    for (const row of rows) this.#one(row);
  }

  #one(row) {
    const { site, sensor, time, value, kind } = this.columns;
    if (row[site] === null || row[site] === undefined) return;
    const names = [row[site], sensor ? row[sensor] : "", kind ? row[kind] : ""].map((one) => String(one ?? ""));
    const key = JSON.stringify(names);
    let known = this.all.get(key);
    if (!known) this.all.set(key, (known = { key, site: names[0], sensor: names[1], kind: names[2], points: [], last: null, value: null, changed: 0 }));
    const at = time ? instant(row[time]) : (known.last ?? 0) + 1;
    if (at === null || typeof row[value] !== "number") return;
    known.changed++;
    insert(known.points, at, row[value]);
    [known.last, known.value] = known.points.at(-1);
  }

  // Those that fit, by site and name. `filter`: {site, kind, text}, each may be empty.
  select({ site, kind, text }) {
    const wanted = text.toLowerCase();
    const fits = (one) => (!site || one.site === site) && (!kind || one.kind === kind) && (!wanted || `${one.site} ${one.sensor} ${one.kind}`.toLowerCase().includes(wanted));
    const order = new Intl.Collator([], { numeric: true }).compare;
    return [...this.all.values()].filter(fits).sort((a, b) => order(a.site, b.site) || order(a.sensor, b.sensor) || order(a.kind, b.kind));
  }

  values(name) {
    return [...new Set([...this.all.values()].map((one) => one[name]).filter(Boolean))].sort();
  }
}

// In order of time; a time that is known already is not a second point. The oldest go.
function insert(points, at, value) {
  let place = points.length;
  while (place > 0 && points[place - 1][0] > at) place--;
  if (place > 0 && points[place - 1][0] === at) points[place - 1][1] = value;
  else points.splice(place, 0, [at, value]);
  if (points.length > POINTS) points.shift();
}

// What of a stream is time, value, sensor and kind. `aggregates`: of station.json.
export function columnsOf(stream, station) {
  const names = new Set(stream.columns.map((one) => one.name));
  const others = stream.key.filter((one) => one !== station.site);
  return {
    site: station.site,
    sensor: names.has(station.sensor) ? station.sensor : (others[0] ?? null),
    time: stream.event_time,
    kind: names.has("kind") ? "kind" : null,
  };
}

// Columns of numbers, the likeliest first.
export function valuesOf(stream, station) {
  const declared = station.aggregates.filter((one) => one.stream === stream.name).map((one) => one.value);
  const floats = stream.columns.filter((one) => /^(DOUBLE|FLOAT|DECIMAL)/.test(one.type)).map((one) => one.name);
  const whole = stream.columns.filter((one) => /INT/.test(one.type)).map((one) => one.name);
  return [...new Set([...declared, ...floats, ...whole])].filter((one) => one !== stream.event_time);
}
