// Values as text for people, and bytes as hex.

const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const COUNT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function number(value) {
  return value === null || value === undefined ? "–" : NUMBER.format(value);
}

export function count(value) {
  return value === null || value === undefined ? "–" : COUNT.format(value);
}

export function rate(value) {
  return value === null ? "…" : `${value < 10 ? value.toFixed(1) : COUNT.format(value)}/s`;
}

// A span of time in ms.
export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  const size = Math.abs(ms);
  if (size < 1000) return `${Math.round(ms)} ms`;
  if (size < 120_000) return `${(ms / 1000).toFixed(size < 10_000 ? 1 : 0)} s`;
  if (size < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (size < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

// ms since 1970 of what the API says: a number, "2026-11-21 10:00:00.000Z", or without a zone, which is UTC.
export function instant(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "number") return value;
  const text = value.replace(" ", "T");
  const found = Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(text) ? text : `${text}Z`);
  return Number.isNaN(found) ? null : found;
}

export function time(ms) {
  return ms === null ? "–" : new Date(ms).toLocaleTimeString([], { hour12: false });
}

export function dateTime(ms) {
  return ms === null ? "–" : new Date(ms).toLocaleString([], { hour12: false });
}

export function bytesOf(letter) {
  if (letter.data_base64 !== undefined) return Uint8Array.from(atob(letter.data_base64), (one) => one.charCodeAt(0));
  return new TextEncoder().encode(letter.data ?? "");
}

// Sixteen bytes a line, with their place in front.
export function hex(bytes, most = 4096) {
  const lines = [];
  for (let at = 0; at < Math.min(bytes.length, most); at += 16) {
    const line = [...bytes.subarray(at, at + 16)].map((one) => one.toString(16).padStart(2, "0"));
    lines.push(`${at.toString(16).padStart(6, "0")}  ${line.join(" ")}`);
  }
  if (bytes.length > most) lines.push(`… ${count(bytes.length - most)} more bytes`);
  return lines.join("\n");
}

export function csv(rows) {
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => row.map((one) => cell(String(one ?? ""))).join(",") + "\r\n").join("");
}
