// Register a site and its sensors; their credentials, once, with what to paste.

import { ask, Problem } from "./api.js";
import { choose, el, empty, field, named, problem, put, say } from "./dom.js";
import { csv } from "./format.js";
import { example, snippets, topicOf } from "./snippets.js";
import { keyedTable } from "./table.js";

const MOST = 10_000;
const PAGE = 100;

export async function show(main, station, signal) {
  if (!station.may_see_devices) {
    main.replaceChildren(el("h1", {}, "Register"), notAllowed(station));
    return;
  }
  const { streams } = await ask("/v1/streams", { signal });
  const result = el("section", { "aria-label": "Credentials" });
  const list = devices(station, signal);
  main.replaceChildren(el("h1", {}, "Register a site and its sensors"), form(station, streams, result, list.first), result,
    el("h2", {}, "What is registered"), list.node);
  await list.first();
}

function notAllowed(station) {
  if (station.user === null) {
    return empty("Whoever registers sensors has to say who he is, and this station has nobody who may yet.",
      el("p", {}, "In the project's folder: ", el("code", {}, "qanat key add operator --scope admin")),
      el("p", {}, "Then sign in with the key that it shows. From then on everybody who sends or reads needs credentials."));
  }
  return empty(`${station.user} may not register devices.`,
    el("p", {}, "A key needs the scope ", el("code", {}, "devices"), " or ", el("code", {}, "admin"), "; a user of qanat.yaml ", el("code", {}, "admin: true"), "."));
}

function form(station, streams, result, registered) {
  const stream = el("select");
  choose(stream, station.inputs.map((one) => one.stream));
  const site = el("input", { required: true, spellcheck: "false", autocomplete: "off" });
  const kind = el("input", { spellcheck: "false", autocomplete: "off", placeholder: "temperature" });
  const names = el("textarea", { rows: "4", required: true, spellcheck: "false", placeholder: "meter-1\nmeter-2\ncow-1..20" });
  const credential = el("select", {}, el("option", { value: "password" }, "password"), el("option", { value: "token" }, "token"));
  const topic = el("input", { required: true, spellcheck: "false" });
  const said = el("div");
  const button = el("button", { class: "main" }, "Register");

  const suggest = () => { topic.value = topicFor(station, stream.value, site.value, kind.value); };
  async function submit(event) {
    event.preventDefault();
    said.replaceChildren();
    button.disabled = true;
    try {
      const wanted = { stream: stream.value, site: site.value.trim(), kind: kind.value.trim(), credential: credential.value, topic: topic.value.trim() };
      checkTopic(wanted.topic);
      const ids = idsOf(names.value);
      const { devices } = await ask("/v1/devices", { method: "POST", body: ids.map((id) => record(id, wanted, station)) });
      drawCredentials(result, devices, wanted, station, streams);
      names.value = "";
      say(`${devices.length} registered. Their credentials are shown once.`);
      await registered();
    } catch (error) {
      said.replaceChildren(problem(error));
    } finally {
      button.disabled = false;
    }
  }

  for (const one of [stream, site, kind]) one.addEventListener("input", suggest);
  suggest();
  return el("form", { class: "card", submit },
    el("div", { class: "row top" }, field("Site", site), field("Kind", kind), field("Stream", stream), field("Credential", credential)),
    field("Names of the sensors", names, "one a line; meter-1..20 are twenty"),
    field("Topic", topic, "where they may publish; {id} stands for the name of each"),
    el("p", {}, button), said);
}

function record(id, { site, kind, credential, topic }, station) {
  return { id, credential, publish: [topic], labels: { [station.site]: site }, ...(kind ? { kind } : {}) };
}

// A source's topic with what is known filled in; else the stream's own topics.
function topicFor(station, stream, site, kind) {
  const pattern = station.inputs.find((one) => one.stream === stream)?.topics[0];
  if (!pattern) return `${stream}/{id}`;
  const level = (text, name) => (/^[^/+#{}]+$/.test(text.trim()) ? text.trim() : `{${name}}`);
  return pattern.replaceAll(`{${station.sensor}}`, "{id}").replaceAll(`{${station.site}}`, level(site, station.site)).replaceAll("{kind}", level(kind, "kind"));
}

function checkTopic(topic) {
  const open = /\{(?!id\})[^}]*\}/.exec(topic);
  if (open) throw new Problem(400, `The topic still has ${open[0]}.`, "fill in the field of that name, without / + # { }, or write the level into the topic");
}

// Names, one a line; NAME1..20 is NAME1 to NAME20.
function idsOf(text) {
  const found = [];
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const range = /^(.*?)(\d{1,9})\.\.(\d{1,9})$/.exec(line);
    if (range === null) found.push(line);
    else for (let one = Number(range[2]); one <= Number(range[3]) && found.length <= MOST; one++) found.push(range[1] + one);
  }
  if (found.length === 0) throw new Problem(400, "There is no name.", "one name a line");
  if (found.length > MOST) throw new Problem(400, `More than ${MOST} at once.`, "qanat device add --count registers more");
  return found;
}

function drawCredentials(place, devices, wanted, station, streams) {
  const host = location.hostname.replace(/^\[|\]$/g, "");
  const where = { host, mqttPort: station.mqtt_port, origin: location.origin };
  const which = el("select");
  choose(which, devices.map((one) => one.id));
  const found = streams.find((one) => one.name === wanted.stream);
  const inTopic = new Set([...(station.inputs.find((one) => one.stream === wanted.stream)?.topics[0] ?? "").matchAll(/\{(\w+)\}/g)].map((one) => one[1]));
  const blocks = { mosquitto: code("mosquitto_pub"), python: code("Python (paho-mqtt)"), curl: code("curl") };
  function draw() {
    const one = devices.find(({ id }) => id === which.value);
    const given = { [station.site]: wanted.site, [station.sensor]: one.id, ...(wanted.kind ? { kind: wanted.kind } : {}) };
    for (const name of inTopic) given[name] = null;
    const message = example(found?.columns ?? [], given, found?.event_time);
    const texts = snippets(one, topicOf(wanted.topic, one.id), message, where);
    for (const [name, block] of Object.entries(blocks)) block.text.textContent = texts[name];
  }
  which.addEventListener("change", draw);
  draw();
  const table = keyedTable("Credentials", [["Name", ""], ["Credential", ""], ["Secret", ""]]);
  table.update(devices.slice(0, PAGE).map((one) => ({ key: one.id, cells: [named(one.id), one.credential, el("code", {}, one.secret)] })));
  const title = el("h2", { tabindex: "-1" }, "Credentials of ", named(wanted.site));
  put(place, title,
    el("p", { class: "bad" }, "Shown once: the station keeps only what checks them. Download or copy them now."),
    el("p", { class: "row" }, download(devices, wanted)),
    table.node, devices.length > PAGE ? el("p", { class: "dim" }, `and ${devices.length - PAGE} more in the CSV file`) : null,
    el("h2", {}, "Send with it"), field("As", which), ...Object.values(blocks).map((one) => one.node));
  title.focus();
}

function download(devices, { site, kind, topic }) {
  const rows = devices.map((one) => [one.id, site, kind, topicOf(topic, one.id), one.credential, one.secret]);
  const text = csv([["id", "site", "kind", "topic", "credential", "secret"], ...rows]);
  function click() {
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    el("a", { href: url, download: "credentials.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
  return el("button", { type: "button", class: "main", click }, "Download as CSV");
}

function code(title) {
  const text = el("pre", { tabindex: "0", "aria-label": title, "data-snippet": title.split(" ")[0].toLowerCase() });
  async function click() {
    try {
      await navigator.clipboard.writeText(text.textContent);
      say(`${title}: copied`);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    } catch { // no clipboard without https, except on this machine: mark it, so that Ctrl-C does it
      getSelection().selectAllChildren(text);
      say("Marked; copy it with Ctrl-C");
    }
  }
  const button = el("button", { type: "button", "aria-label": `Copy ${title}`, click }, "Copy");
  return { node: el("div", {}, el("div", { class: "row" }, el("strong", {}, title), button), text), text };
}

function devices(station, signal) {
  const table = keyedTable("Devices", [["Name", ""], ["Site", ""], ["Kind", ""], ["State", ""]]);
  const said = el("div");
  const more = el("button", { type: "button", click: () => load() }, "More");
  let found = [];
  let after = "";
  async function load() {
    try {
      const page = await ask(`/v1/devices?${new URLSearchParams({ limit: PAGE, after })}`, { signal });
      found = found.concat(page.devices);
      after = page.next ?? "";
      table.update(found.map((one) => ({ key: one.id, cells: [named(one.id), named(one.labels[station.site] ?? ""), named(one.kind ?? ""), one.disabled ? "disabled" : "enabled"] })));
      more.hidden = page.next === null;
      table.node.hidden = found.length === 0;
      put(said, found.length ? null : empty("Nothing is registered yet.", el("p", {}, "Name a site and its sensors above.")));
    } catch (error) {
      said.replaceChildren(problem(error));
    }
  }
  async function first() {
    found = [];
    after = "";
    await load();
  }
  return { node: el("div", {}, said, table.node, more), first };
}
