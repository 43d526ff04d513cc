// The form that asks who it is: an API key, or a user with a password. Kept for this tab only.

import { ask, keepCredentials } from "./api.js";
import { el, field, problem } from "./dom.js";

const NOT_ASCII = { message: "A key has letters, digits and signs of ASCII only.", hint: "qanat key add NAME --scope admin makes one" };

// `refused`: what was said of the credentials that this tab had, or null.
export function signIn(main, refused) {
  const key = el("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  const user = el("input", { autocomplete: "username", spellcheck: "false" });
  const password = el("input", { type: "password", autocomplete: "current-password" });
  const said = el("div", {}, refused ? problem(refused) : null);
  const button = el("button", { class: "main" }, "Sign in");

  async function submit(event) {
    event.preventDefault();
    said.replaceChildren();
    const found = key.value.trim() ? byKey(key.value.trim()) : byPassword(user.value, password.value);
    if (found === null) {
      said.replaceChildren(problem(NOT_ASCII));
      return;
    }
    button.disabled = true;
    keepCredentials(found);
    try {
      const station = await ask("/ui/station.json");
      if (station.user !== null) {
        location.reload();
        return;
      }
      keepCredentials(null);
      said.replaceChildren(problem(station.demanded ? { message: "That was not accepted: an unknown user, a wrong password, or a key that does not count.",
        hint: "qanat key list says which keys count; qanat key add NAME --scope admin makes one that may do everything" }
        : { message: "Nobody is asked who he is here, since there are neither users nor keys.", hint: "qanat key add NAME --scope admin makes a key" }));
    } catch (error) {
      keepCredentials(null);
      said.replaceChildren(problem(error));
    }
    button.disabled = false;
    key.focus();
  }

  main.replaceChildren(
    el("h1", {}, "Sign in"),
    el("p", {}, "With an API key, or with a user of qanat.yaml. It is kept in this tab until it is closed."),
    el("form", { class: "card", submit },
      el("div", { class: "row" }, field("API key", key)),
      el("p", { class: "dim" }, "or"),
      el("div", { class: "row" }, field("User", user), field("Password", password)),
      button, said),
    el("p", { class: "dim" }, "No key yet? In the project's folder: ", el("code", {}, "qanat key add operator --scope admin")),
  );
  key.focus();
}

function byKey(text) {
  return /^[\x21-\x7e]+$/.test(text) ? { header: "x-api-key", value: text } : null;
}

function byPassword(user, password) {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  return { header: "authorization", value: `Basic ${btoa(String.fromCharCode(...bytes))}` };
}
