// A job until it has ended: its events tell the stage at once, a look every second the place in the queue and the ETA.
import { ask, local } from "/web/api.js";
import { events } from "/web/events.js";

export const ended = (job) => job.status !== "queued" && job.status !== "running";

const ENDS = ["succeeded", "failed", "canceled", "expired"];

function after(job, event) {
  switch (event.kind) {
    case "queued":
      return { ...job, status: "queued", stage: "queued" };
    case "running":
      return { ...job, status: "running", stage: "generate", queue_position: null };
    case "stage":
      return { ...job, status: "running", stage: event.stage, progress: event.progress, queue_position: null };
    default:
      return job;
  }
}

// `tell(job, lost)` hears of every change; the answer is the job that has ended.
export async function follow(job, signal, tell) {
  const self = local(job.links.self);
  let lost = false, over = false;
  const look = async () => {
    const seen = await ask(self, { signal });
    if (over || ended(seen) || seen.progress < job.progress) return;
    job = seen;
    tell(job, lost);
  };
  const clock = setInterval(() => look().catch(() => {}), 1000); // the events say when the server is gone
  try {
    for await (const event of events(local(job.links.events), signal)) {
      lost = event.kind === "lost";
      job = after(job, event);
      tell(job, lost);
      if (ENDS.includes(event.kind)) break;
    }
  } finally {
    over = true;
    clearInterval(clock);
  }
  return ask(self, { signal });
}
