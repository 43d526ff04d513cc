// Dead letters: what could not be taken and why, their bytes, and what to do with them.

import { ask } from "./api.js";
import { el, empty, field, named, problem } from "./dom.js";
import { bytesOf, count, dateTime, hex, instant } from "./format.js";

const PAGE = 50;

export async function show(main, station, signal) {
  const stream = el("input", { spellcheck: "false" });
  const reason = el("input", { spellcheck: "false" });
  const said = el("div", { "aria-live": "polite" });
  const list = el("div", { id: "letters" });
  const more = el("button", { type: "button", hidden: true, click: () => load(false) }, "More");
  let next = null;

  async function load(anew) {
    try {
      const asked = { limit: PAGE, ...(stream.value && { stream: stream.value }), ...(reason.value && { reason: reason.value }), ...(!anew && next && { before: next }) };
      const page = await ask(`/v1/dead-letters?${new URLSearchParams(asked)}`, { signal });
      const found = page.letters.map((one) => letterOf(one, { said, load }));
      if (anew) list.replaceChildren(...found);
      else list.append(...found);
      next = page.next;
      more.hidden = next === null;
      if (list.childElementCount === 0) list.append(nothing(stream.value || reason.value));
    } catch (error) {
      if (error.status !== 401) list.replaceChildren(problem(error));
    }
  }

  main.replaceChildren(el("h1", {}, "Dead letters"),
    el("p", {}, "What could not be taken, the newest first. Retry takes a letter as if it had come now; drop puts it aside, and its bytes stay until retention ends."),
    el("form", { class: "row", submit: (event) => { event.preventDefault(); load(true); } },
      field("Stream", stream), field("Reason contains", reason), el("button", {}, "Show")),
    said, list, more);
  await load(true);
}

function nothing(filtered) {
  return filtered ? empty("No open dead letter is like that.", el("p", {}, "Leave the fields empty to see all."))
    : empty("There is no open dead letter: all that came could be taken.", el("p", {}, "Those that were repaired: ", el("code", {}, "qanat dead list --all")));
}

function letterOf(letter, page) {
  const bytes = bytesOf(letter);
  const text = letter.data === undefined ? null : el("textarea", { rows: Math.min(8, 1 + letter.data.split("\n").length), spellcheck: "false" });
  if (text) text.value = letter.data;
  const retry = () => act(page, node, `Retry letter ${letter.id}?`, `Its rows go to ${letter.stream ?? "the stream of its topic"} if they fit.`, "Retry", () => retried(letter, text));
  const drop = () => act(page, node, `Drop letter ${letter.id}?`, `${count(bytes.length)} bytes for ${letter.stream ?? "no stream"}. It will not be listed any more.`, "Drop", () => dropped(letter));
  const node = el("article", { class: "letter", "data-letter": letter.id, "aria-label": `Dead letter ${letter.id}` },
    el("h3", {}, named(letter.reason)),
    el("p", { class: "dim" }, `${letter.id}, ${dateTime(instant(letter.arrived))}, for `, named(letter.stream ?? "no stream"), `, by ${letter.source}, `, named(letter.origin || "–"), ", from ", named(letter.client || "nobody known")),
    text ? field("Bytes as text (may be corrected before a retry)", text) : el("p", {}, "The bytes are no text in UTF-8."),
    el("details", {}, el("summary", {}, `Bytes as hex (${count(bytes.length)})`), el("pre", { class: "hex", tabindex: "0", "aria-label": "Bytes as hex" }, hex(bytes))),
    el("div", { class: "row" }, el("button", { type: "button", click: retry }, "Retry"), el("button", { type: "button", class: "danger", click: drop }, "Drop")),
    el("div", { class: "fate", role: "status" }));
  return node;
}

async function act(page, node, question, detail, verb, work) {
  if (!(await confirmed(question, detail, verb))) return;
  const fate = node.querySelector(".fate");
  const buttons = node.querySelectorAll("button");
  buttons.forEach((one) => { one.disabled = true; });
  try {
    const { done, text } = await work();
    if (done) {
      page.said.replaceChildren(el("p", { class: "good" }, text));
      await page.load(true);
      document.getElementById("main").focus();
      return;
    }
    fate.replaceChildren(el("p", { class: "bad" }, named(text)));
  } catch (error) {
    fate.replaceChildren(problem(error));
  }
  buttons.forEach((one) => { one.disabled = false; });
}

async function retried(letter, text) {
  const changed = text !== null && text.value !== letter.data ? { data: text.value } : {};
  const { letters: [one] } = await ask("/v1/dead-letters/retry", { method: "POST", body: { letters: [{ id: letter.id, ...changed }] } });
  const why = one.reason ?? one.why;
  return { done: one.fate.startsWith("repaired"), text: `Letter ${letter.id}: ${one.fate}${why ? `: ${why}` : ""}` };
}

async function dropped(letter) {
  const { letters: [one] } = await ask("/v1/dead-letters/drop", { method: "POST", body: { letters: [letter.id] } });
  return { done: one.fate !== "not allowed", text: `Letter ${letter.id}: ${one.fate}` };
}

// Resolves to whether it was confirmed; Escape is no. The focus goes back to where it was.
function confirmed(question, detail, verb) {
  return new Promise((resolve) => {
    const no = el("button", { value: "no", type: "button", click: () => dialog.close("no") }, "Cancel");
    const yes = el("button", { class: "main", type: "button", click: () => dialog.close("yes") }, verb);
    const dialog = el("dialog", { "aria-labelledby": "question" }, el("h2", { id: "question" }, question), el("p", {}, detail), el("div", { class: "row" }, yes, no));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });
}
