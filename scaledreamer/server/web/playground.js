// The playground: start a job or open the one of the address, follow it, show the mesh. It uses the public API only.
import { addressOf, ask, local, post, Problem } from "/web/api.js";
import { $ } from "/web/dom.js";
import * as downloads from "/web/downloads.js";
import { ended, follow } from "/web/follow.js";
import * as form from "/web/form.js";
import { watch } from "/web/health.js";
import * as history from "/web/history.js";
import { complain, settle } from "/web/problems.js";
import { write } from "/web/snippets.js";
import { drawStages, saying, timing } from "/web/stages.js";
import * as unlock from "/web/unlock.js";
import * as viewer from "/web/viewer.js";

const current = () => new URL(location.href).searchParams.get("job");
const refresh = () => history.refresh(current);
const quietly = () => refresh().catch(() => {}); // the badge says when the server is gone
let watched = new AbortController(); // ends when another job is shown
let ticking = null;
let denied = null; // what is tried again when there is a key

function draw(job, lost = false) {
  const words = saying(job, lost);
  $("job").hidden = false;
  $("title").textContent = history.naming(job);
  if ($("status").textContent !== words) $("status").textContent = words;
  $("progress").hidden = ended(job);
  $("progress").value = job.progress;
  const leaving = ended(job) && document.activeElement === $("cancel");
  $("cancel").hidden = ended(job);
  if (leaving) $("prompt").focus();
  drawStages(job);
  clearInterval(ticking);
  const tick = () => { $("clock").textContent = timing(job); };
  if (!ended(job)) ticking = setInterval(tick, 100);
  tick();
}

function blank() {
  clearInterval(ticking);
  document.title = "ScaleDreamer — text to 3D";
  $("job").hidden = true;
  downloads.withdraw();
  viewer.clear("Your mesh appears here.");
}

async function show(job, signal) {
  try {
    downloads.offer(job, (format) => derive(job, format), complain);
    await viewer.show(job);
  } catch (problem) {
    if (signal.aborted) return;
    const now = await ask(local(job.links.self), { signal }); // its files may be gone
    if (now.status === "expired") return finish(now, signal);
    throw problem;
  }
}

async function finish(job, signal) {
  draw(job);
  const repeat = () => start(form.again(job));
  if (job.status === "succeeded") {
    if (job.warnings.length) $("clock").textContent += ` · ${job.warnings.join(" · ")}`;
    return show(job, signal);
  }
  downloads.withdraw();
  viewer.clear({ failed: "No mesh: the job failed.", expired: "The mesh has been removed." }[job.status] || "No mesh: the job was canceled.");
  if (job.status === "expired") {
    complain(new Problem("The files of this job have been removed", "They are kept for a time only. Generate them again."), "Generate again", repeat);
  } else if (job.status === "failed") {
    complain(new Problem(job.error.title, job.error.detail), "Try again", repeat);
  }
}

// Show the job that `get(signal)` brings, in place of what is shown.
async function present(get, repeat) {
  watched.abort();
  const { signal } = (watched = new AbortController());
  settle();
  denied = null;
  try {
    const job = await get(signal);
    signal.throwIfAborted();
    document.title = `${job.prompt} — ScaleDreamer`;
    if (!ended(job)) {
      downloads.withdraw();
      if (!job.links.parent) viewer.clear("The mesh appears here when it is ready.");
    }
    draw(job);
    quietly();
    const last = ended(job) ? job : await follow(job, signal, draw);
    await finish(last, signal);
    quietly();
    return last.status;
  } catch (problem) {
    if (signal.aborted) return null;
    if (problem.status === 401) denied = repeat;
    const passes = !problem.status || problem.status === 429 || problem.status >= 500;
    complain(problem, "Try again", passes ? repeat : null);
    return null;
  }
}

function visit(id) {
  if (current() !== id) window.history.pushState(null, "", history.linkTo(id));
}

const open = () => present(async (signal) => {
  blank();
  const job = await ask(addressOf(current()), { signal });
  form.fill(job);
  return job;
}, open);

function create(path, body) {
  return present(async (signal) => {
    const job = await post(path, body, signal);
    visit(job.id);
    return job;
  }, () => create(path, body));
}

const start = (request) => create("/v1/jobs", request);

// The same field with one format more: a job of its own, which has all files.
async function derive(job, format) {
  const made = await create(local(job.links.exports), { formats: [...job.request.formats, format] });
  if (made === "succeeded") downloads.present(format);
}

function route() {
  if (current()) return open();
  watched.abort();
  settle();
  blank();
  return quietly();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start(form.wanted());
});
$("cancel").addEventListener("click", () => post(`${addressOf(current())}/cancel`).catch((problem) => complain(problem)));
$("new").addEventListener("click", (event) => {
  event.preventDefault();
  window.history.pushState(null, "", "/");
  route();
  $("prompt").focus();
  $("prompt").select();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !downloads.close()) settle();
});
window.addEventListener("popstate", route);
history.listen((id) => { visit(id); open(); }, current);
unlock.listen(() => {
  settle();
  write();
  refresh().then(() => denied?.(), (problem) => complain(problem));
});
route();
watch(quietly);
