// Elements out of plain values. Text becomes text nodes and nothing else, so that names cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((one) => one !== null && one !== undefined));
  return node;
}

// What others have named: its direction does not touch its surroundings.
export function named(text) {
  return el("bdi", {}, String(text));
}

let fields = 0;

export function field(label, control, note) {
  control.id ||= `field-${++fields}`;
  const about = note ? el("div", { class: "dim", id: `${control.id}-note` }, note) : null;
  if (about) control.setAttribute("aria-describedby", about.id);
  return el("div", { class: "field" }, el("label", { for: control.id }, label), control, about);
}

// `choices`: texts, or [value, text]. What was chosen stays chosen as long as it is there.
export function choose(control, choices) {
  const before = control.options.length ? control.value : null;
  const pairs = choices.map((one) => (Array.isArray(one) ? one : [one, one]));
  const now = JSON.stringify(pairs);
  if (control.dataset.choices === now) return;
  control.dataset.choices = now;
  control.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  if (pairs.some(([value]) => value === before)) control.value = before;
}

export function problem(error) {
  const hint = error.hint ? el("p", {}, "What helps: ", error.hint) : null;
  return el("div", { class: "problem", role: "alert" }, el("p", {}, error.message), hint);
}

export function empty(text, ...more) {
  return el("div", { class: "empty" }, el("p", {}, text), ...more);
}

// For screen readers: said once, where nothing on the page has the focus.
export function say(text) {
  document.getElementById("said").textContent = text;
}

// Changes only what differs, so that focus and selection stay.
export function put(node, ...children) {
  const now = children.filter((one) => one !== null && one !== undefined);
  const texts = now.every((one) => typeof one === "string");
  if (texts && node.childElementCount === 0 && node.textContent === now.join("")) return;
  node.replaceChildren(...now);
}
