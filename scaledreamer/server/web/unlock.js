// A server with keys wants one: asked for when it says so, kept in this tab.
import { keep } from "/web/api.js";
import { $ } from "/web/dom.js";

document.addEventListener("locked", () => {
  $("unlock").hidden = false;
  $("key").focus();
});

export function listen(given) {
  $("unlock").addEventListener("submit", (event) => {
    event.preventDefault();
    keep($("key").value.trim());
    $("key").value = "";
    $("unlock").hidden = true;
    given();
  });
}
