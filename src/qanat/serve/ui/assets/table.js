// A table whose rows have keys and are updated in place. A cell is a text, or an element.

import { el, put } from "./dom.js";

// `columns`: [title, "number" or ""]
export function keyedTable(caption, columns) {
  const head = el("tr", {}, ...columns.map(([title, kind]) => el("th", { scope: "col", class: kind }, title)));
  const body = el("tbody");
  const node = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "unseen" }, caption), el("thead", {}, head), body));
  const known = new Map();

  function update(rows) {
    const keys = new Set(rows.map(({ key }) => key));
    for (const [key, row] of known) {
      if (!keys.has(key)) {
        row.remove();
        known.delete(key);
      }
    }
    rows.forEach(({ key, cells }, place) => {
      let row = known.get(key);
      if (!row) {
        row = el("tr", {}, ...columns.map(([, kind], number) =>
          number === 0 ? el("th", { scope: "row" }) : el("td", { class: kind })));
        known.set(key, row);
      }
      if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
      cells.forEach((cell, number) => {
        const at = row.children[number];
        if (cell instanceof HTMLElement && cell.localName === "bdi" && at.textContent === cell.textContent) return;
        put(at, cell);
      });
    });
  }

  return { node, update };
}
