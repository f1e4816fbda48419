// Recent jobs, as the server has them: links to this page with the id of a job.
import { ask, content, local } from "/web/api.js";
import { $, node } from "/web/dom.js";
import { blendOf } from "/web/form.js";

const FIRST = 8, MOST = 100;
const ages = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const lines = new Map(); // by job, kept so that what has the focus keeps it
const pictures = new Map(); // by address; a blob where there is a key
let limit = FIRST;

export const linkTo = (id) => `/?job=${id}`;

export function naming(job) {
  const blend = blendOf(job);
  return blend ? `${job.prompt} + ${Math.round(100 * blend.weight)} % ${blend.prompt}` : job.prompt;
}

function age(moment) {
  const passed = (Date.now() - Date.parse(moment)) / 1000;
  const unit = UNITS.find(([, length]) => passed >= length);
  return unit ? ages.format(-Math.floor(passed / unit[1]), unit[0]) : "just now";
}

async function picture(job, image) {
  const path = local(job.links.thumbnail);
  if (!pictures.has(path)) pictures.set(path, content(path));
  image.src = await pictures.get(path).catch(() => "/web/icon.svg");
}

function line(job, current) {
  const known = lines.get(job.id) || node("li", {}, node("a", { href: linkTo(job.id) }));
  lines.set(job.id, known);
  const anchor = known.firstChild;
  const state = job.status === "succeeded" ? age(job.created) : `${age(job.created)} · ${job.status}`;
  const kind = job.links.parent ? ` · ${job.request.formats.join(", ")}` : "";
  const shape = anchor.querySelector(".shape") || node("span", { className: "shape" });
  const words = node("span", {}, node("span", { className: "name" }, naming(job)), node("small", {}, state + kind));
  anchor.replaceChildren(shape, words);
  anchor.dataset.status = job.status;
  if (job.id === current) anchor.setAttribute("aria-current", "page");
  else anchor.removeAttribute("aria-current");
  if (job.status === "succeeded" && job.links.thumbnail && !shape.firstChild) {
    const image = node("img", { alt: "", width: 44, height: 44 });
    shape.append(image);
    picture(job, image);
  }
  return known;
}

export async function refresh(current) {
  const page = await ask(`/v1/jobs?limit=${limit}`);
  const focused = document.activeElement;
  $("history").replaceChildren(...page.jobs.map((job) => line(job, current())));
  if ($("history").contains(focused)) focused.focus();
  $("past").hidden = !page.jobs.length;
  $("more").hidden = !page.next || limit === MOST;
}

// `open(id)` is told which job was chosen; with a modifier key the browser opens a tab of its own.
export function listen(open, current) {
  $("history").addEventListener("click", (event) => {
    const anchor = event.target.closest("a");
    if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(new URL(anchor.href).searchParams.get("job"));
  });
  $("more").addEventListener("click", async () => {
    const before = $("history").children.length;
    limit = MOST;
    await refresh(current).catch(() => {});
    $("history").children[before]?.firstChild.focus();
  });
}
