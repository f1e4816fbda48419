// What went wrong: title, detail and the way out, until it is dismissed.
import { $, node } from "/web/dom.js";

export function complain(problem, label = "", action = null) {
  const parts = [node("strong", {}, problem.title || "Something went wrong"), node("p", {}, problem.message)];
  const more = (problem.faults || []).filter((fault) => !problem.message.includes(fault.detail));
  if (more.length) parts.push(node("ul", {}, ...more.map((fault) => node("li", {}, fault.detail))));
  if (problem.retry) parts.push(node("p", {}, `Try again in ${problem.retry} s.`));
  if (problem.status >= 500 && problem.request) parts.push(node("p", { className: "hint" }, `Request ${problem.request}`));
  const buttons = [node("button", { type: "button", onclick: settle }, "Dismiss")];
  if (action) buttons.unshift(node("button", { type: "button", onclick: action }, label));
  parts.push(node("div", { className: "row" }, ...buttons));
  $("error").replaceChildren(...parts);
  $("error").hidden = false;
}

export function settle() {
  const inside = $("error").contains(document.activeElement);
  $("error").hidden = true;
  if (inside) $("prompt").focus();
}
