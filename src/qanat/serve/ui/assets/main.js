// Begins: asks who this is, and shows the view of the path.

import { ask, credentials, keepCredentials, pause } from "./api.js";
import { el, problem, put } from "./dom.js";
import { show as charts } from "./charts.js";
import { show as deadLetters } from "./dead_letters.js";
import { show as overview } from "./overview.js";
import { show as readings } from "./readings.js";
import { show as register } from "./register.js";
import { signIn } from "./sign_in.js";

const VIEWS = {
  "/": ["Overview", overview],
  "/ui/register": ["Register", register],
  "/ui/readings": ["Readings", readings],
  "/ui/charts": ["Charts", charts],
  "/ui/dead-letters": ["Dead letters", deadLetters],
};

const main = document.getElementById("main");
const path = location.pathname in VIEWS ? location.pathname : "/";
const [title, show] = VIEWS[path];
let view = new AbortController();

function begin(refused) {
  view.abort();
  view = new AbortController();
  signIn(main, refused);
}

function who(station) {
  const button = station.user === null
    ? el("button", { click: () => begin(null) }, "Sign in")
    : el("button", { click: () => { keepCredentials(null); location.reload(); } }, "Sign out");
  const name = station.user === null ? null : el("bdi", { class: "dim" }, `${station.user} `);
  put(document.getElementById("who"), name, button);
}

async function start() {
  document.title = `${title} – qanat`;
  document.querySelector(`nav a[href="${path}"]`).setAttribute("aria-current", "page");
  document.addEventListener("signed-out", (event) => {
    keepCredentials(null);
    begin({ message: event.detail.detail ?? "Credentials are demanded.", hint: event.detail.hint });
  });
  for (;;) {
    try {
      const station = await ask("/ui/station.json");
      who(station);
      if (station.demanded && station.user === null) {
        const refused = credentials() === null ? null : { message: station.detail, hint: station.hint };
        keepCredentials(null);
        begin(refused);
      } else await show(main, station, view.signal);
      return;
    } catch (error) {
      if (view.signal.aborted) return;
      main.replaceChildren(el("h1", {}, title), problem(error));
      if (error.status !== 0) throw error;
    }
    await pause(3000);
  }
}

await start();
