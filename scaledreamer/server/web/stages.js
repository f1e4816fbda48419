// Where a job is: the list of its stages with the running one marked, and the same in words.
import { $, node } from "/web/dom.js";
import { ended } from "/web/follow.js";

const STAGES = {
  queued: ["Queue", "Waiting"],
  generate: ["Shape", "Generating the shape"],
  extract: ["Surface", "Extracting the surface"],
  clean: ["Clean", "Cleaning the mesh"],
  simplify: ["Simplify", "Simplifying the mesh"],
  lods: ["Levels", "Making levels of detail"],
  collision: ["Hull", "Making the collision hull"],
  texture: ["Texture", "Baking the texture"],
  export: ["Files", "Writing the files"],
};

const SKIPPED = {
  lods: (request) => request.lods === 0,
  collision: (request) => request.collision === "none",
  texture: (request) => request.texture === 0,
};

const namesOf = (job) => Object.keys(STAGES).filter((name) => !SKIPPED[name]?.(job.request));
const short = (value) => (value < 100 ? `${value} ms` : `${value < 1e4 ? (value / 1000).toFixed(1) : Math.round(value / 1000)} s`);
const cached = (job) => job.status === "succeeded" && !["generate", "extract", "export"].some((name) => name in job.timings_ms);

function stateOf(place, reached, job) {
  if (job.status === "succeeded" || job.status === "expired" || place < reached) return "done";
  if (place > reached) return "ahead";
  return ended(job) ? "stopped" : "now";
}

export function drawStages(job) {
  const names = namesOf(job);
  const all = Object.keys(STAGES);
  const at = job.stage === "queued" && job.status !== "queued" && job.started ? "generate" : job.stage;
  // A stage that is skipped may still be told; then the one before it counts.
  const reached = names.filter((name) => all.indexOf(name) <= all.indexOf(at)).length - 1;
  const lines = names.map((name, place) => {
    const state = stateOf(place, reached, job);
    const took = job.timings_ms[name === "queued" ? "queue" : name];
    const note = state === "done" && took !== undefined && !cached(job) ? short(took) : { now: "…", stopped: "stopped" }[state] || "";
    const line = node("li", { className: state }, STAGES[name][0], node("small", {}, note));
    line.dataset.stage = name;
    if (state === "now") line.setAttribute("aria-current", "step");
    return line;
  });
  $("stages").replaceChildren(...lines);
}

export function saying(job, lost) {
  if (lost) return "The server does not answer; waiting for it";
  switch (job.status) {
    case "queued":
      return job.queue_position > 1 ? `Waiting, ${job.queue_position - 1} before you` : "Waiting, you are next";
    case "running":
      return (STAGES[job.stage] || STAGES.generate)[1];
    case "succeeded":
      return cached(job) ? "Done: it was made before" : "Done";
    default:
      return { failed: "Failed", canceled: "Canceled", expired: "Expired" }[job.status];
  }
}

// Beside the words, and not read aloud: it changes every second.
export function timing(job) {
  if (job.status === "succeeded") return `· ${short(job.timings_ms.total)}`;
  if (ended(job)) return "";
  const passed = Math.max(0, Date.now() - Date.parse(job.created));
  const left = job.eta_seconds ? ` · about ${Math.ceil(job.eta_seconds)} s left` : "";
  return `· ${(passed / 1000).toFixed(1)} s${left}`;
}
