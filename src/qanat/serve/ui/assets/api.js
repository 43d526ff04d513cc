// Requests to the API with the credentials of this tab. Draws nothing.

const STORED = "qanat.credentials";
let ahead = 0; // ms that the server's clock is ahead of ours

export class Problem extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

// {header, value}, or null.
export function credentials() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED));
  } catch {
    return null;
  }
}

export function keepCredentials(found) {
  if (found === null) sessionStorage.removeItem(STORED);
  else sessionStorage.setItem(STORED, JSON.stringify(found));
}

// Now, by the clock of the server (ms, to about a second).
export function serverNow() {
  return Date.now() + ahead;
}

function headers(more = {}) {
  const found = credentials();
  return found === null ? more : { ...more, [found.header]: found.value };
}

async function send(path, options) {
  let response;
  try {
    // Without "omit" browsers ask for a password of their own when the answer is 401.
    response = await fetch(path, { credentials: "omit", cache: "no-cache", redirect: "error", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer.", "See whether qanat up is running; this page goes on trying.");
  }
  const said = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(said) && Math.abs(said + 500 - Date.now() - ahead) > 1500) ahead = said + 500 - Date.now();
  return response;
}

async function refusal(response) {
  const content = await response.json().catch(() => ({}));
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signed-out", { detail: content }));
  return new Problem(response.status, content.detail ?? `${response.status} ${response.statusText}`, content.hint);
}

// The JSON of the answer. `body`: sent as JSON. `expected`: statuses beside 2xx that are no errors. Throws Problem.
export async function ask(path, { method = "GET", body, signal, expected = [] } = {}) {
  const more = body === undefined ? {} : { "content-type": "application/json" };
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const response = await send(path, { method, headers: headers(more), body: sent, signal });
  if (!response.ok && !expected.includes(response.status)) throw await refusal(response);
  return response.json();
}

// Calls `onRows` with the rows of a stream as they come, and `onState` with whether the connection stands; comes again
// where it stopped. Ends with the signal. Throws Problem where the server refuses.
export async function follow(stream, { onRows, onState, signal, from = "latest" }) {
  let last = null;
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      const path = `/v1/streams/${encodeURIComponent(stream)}/rows/live?from=${encodeURIComponent(last ?? from)}`;
      const response = await send(path, { headers: headers(), signal });
      if (!response.ok) throw await refusal(response);
      onState(true);
      failures = 0;
      for await (const events of eventsOf(response.body)) {
        last = events.findLast((one) => one.id)?.id ?? last;
        const rows = events.filter((one) => one.event === "row").map((one) => JSON.parse(one.data).row);
        if (rows.length) onRows(rows);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    onState(false);
    await pause(Math.min(1000 * 2 ** failures, 15_000), signal);
  }
}

// Server-sent events, as many at a time as have come.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    yield blocks.map(eventOf);
  }
}

function eventOf(block) {
  const found = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) found[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  return found;
}

export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

// Does `work` again and again, with `ms` between; not while nobody looks at the page.
export async function every(ms, work, signal) {
  while (!signal.aborted) {
    if (!document.hidden) await work();
    await pause(ms, signal);
  }
}
