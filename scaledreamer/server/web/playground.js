// The playground: start a job, follow it, show the mesh. It uses the public API and nothing else.
const $ = (id) => document.getElementById(id);
const form = $("form"), prompt = $("prompt"), viewer = $("viewer");
const sizes = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
// Addresses in a job are absolute; only the path is used, so the page also works behind a proxy.
const local = (address) => new URL(address, location.href).pathname;

class Problem extends Error {
  constructor(title, detail) { super(detail || title); this.title = title; }
}

// A server with keys wants one of every request; a page cannot add it to a link, so files come as blobs then.
const KEY = "scaledreamer-key";
const key = () => sessionStorage.getItem(KEY);

async function reach(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...options.headers, ...(key() && { authorization: `Bearer ${key()}` }) } });
  } catch {
    throw new Problem("The server does not answer", "Is it still running? Start it again with: scaledreamer serve");
  }
  if (answer.status === 401) {
    sessionStorage.removeItem(KEY);
    $("unlock").hidden = false;
    $("key").focus();
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Problem(body.title || `HTTP ${answer.status}`, body.detail);
  }
  return answer;
}

const ask = async (path, options) => (await reach(path, options)).json();
const content = async (path) => (key() ? URL.createObjectURL(await (await reach(path)).blob()) : path);

const STAGES = {
  generate: "Generating", extract: "Extracting the surface", clean: "Cleaning", simplify: "Simplifying",
  lods: "Making levels of detail", collision: "Making the hull", texture: "Baking the texture", export: "Writing files",
};

function words(job, seconds) {
  const time = `${seconds.toFixed(1)} s`;
  if (job.status === "queued") return job.queue_position > 1 ? `Waiting, ${job.queue_position - 1} before you · ${time}` : `Waiting · ${time}`;
  return `${STAGES[job.stage] || job.stage} · ${time}`;
}

async function follow(job, begin) {
  for (let wait = 150; job.status === "queued" || job.status === "running"; wait = Math.min(wait * 1.3, 1000)) {
    $("progress").value = job.progress;
    $("status").textContent = words(job, (performance.now() - begin) / 1000);
    await pause(wait);
    job = await ask(local(job.links.self));
  }
  if (job.status !== "succeeded") throw new Problem(job.error?.title || `The job is ${job.status}`, job.error?.detail);
  return job;
}

function size(bytes) {
  return bytes < 1e6 ? `${sizes.format(bytes / 1e3)} kB` : `${sizes.format(bytes / 1e6)} MB`;
}

function offer(files) {
  const links = files.filter((file) => file.role === "mesh" || file.role === "bundle").map((file) => {
    const link = document.createElement("a"), note = document.createElement("small");
    link.href = local(file.url);
    link.download = file.name;
    link.addEventListener("click", async (event) => {
      if (!key() || link.href.startsWith("blob:")) return;
      event.preventDefault();
      try {
        link.href = await content(local(file.url));
        link.click();
      } catch (problem) {
        complain(problem);
      }
    });
    note.textContent = size(file.bytes);
    link.append(`${file.format.toUpperCase()} `, note);
    return link;
  });
  $("downloads").replaceChildren(...links);
  $("downloads").hidden = false;
}

function shown(address) {
  return new Promise((resolve, reject) => {
    const done = (event) => {
      viewer.removeEventListener("load", done);
      viewer.removeEventListener("error", done);
      if (event.type === "load") resolve();
      else reject(new Problem("The mesh cannot be shown here", "This browser could not draw it; the downloads work."));
    };
    viewer.addEventListener("load", done);
    viewer.addEventListener("error", done);
    viewer.src = address;
  });
}

function complain(problem) {
  const title = document.createElement("strong");
  title.textContent = problem.title || "Something went wrong";
  $("error").replaceChildren(title, problem.message);
  $("error").hidden = false;
  $("status").textContent = "";
}

async function generate() {
  const begin = performance.now();
  const request = { prompt: prompt.value, resolution: Number($("resolution").value), formats: ["glb", "obj"] };
  $("generate").disabled = true;
  $("error").hidden = $("downloads").hidden = true;
  $("progress").hidden = false;
  $("progress").value = 0;
  $("status").textContent = "Sending…";
  try {
    const headers = { "content-type": "application/json" };
    const job = await follow(await ask("/v1/jobs", { method: "POST", headers, body: JSON.stringify(request) }), begin);
    offer(job.files);
    viewer.alt = `3D mesh: ${job.prompt}`;
    $("empty").hidden = true;
    $("facts").textContent = `${job.report.levels[0].facts.faces.toLocaleString()} faces · ${job.report.size.extent_m.map((side) => side.toFixed(2)).join(" × ")} m · ${job.model}`;
    $("facts").hidden = false;
    $("status").textContent = [`Done in ${((performance.now() - begin) / 1000).toFixed(1)} s.`, ...job.warnings].join(" ");
    await shown(await content(local(job.files.find((file) => file.role === "mesh" && file.format === "glb").url)));
  } catch (problem) {
    complain(problem);
  } finally {
    $("progress").hidden = true;
    $("generate").disabled = false;
  }
}

function command() {
  const body = JSON.stringify({ prompt: prompt.value }).replaceAll("'", "'\\''");
  $("curl").textContent = `curl -X POST ${location.origin}/generate -d '${body}'`;
}

async function watch() {
  for (;;) {
    const answer = await fetch("/health/ready").catch(() => null);
    $("ready").textContent = answer?.ok ? "ready" : answer ? "loading the model…" : "offline";
    await pause(answer?.ok ? 15000 : 1000);
  }
}

$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  $("unlock").hidden = true;
  form.requestSubmit();
});
form.addEventListener("submit", (event) => { event.preventDefault(); if (!$("generate").disabled) generate(); });
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
prompt.addEventListener("input", command);
for (const example of document.querySelectorAll(".examples button")) {
  example.addEventListener("click", () => { prompt.value = example.textContent; command(); form.requestSubmit(); });
}
command();
watch();
