// The form as a request, and a job's request as the form.
import { $ } from "/web/dom.js";

const DEFAULT = "prop";
export const blendOf = (job) => job.request.blend && { prompt: job.request.blend[0], weight: job.request.blend[1] };

// Only what differs from the defaults, so that the request reads as one would write it.
export function wanted() {
  const second = $("second").value.trim();
  return {
    prompt: $("prompt").value,
    ...(second && { blend: { prompt: second, weight: $("weight").value / 100 } }),
    ...($("preset").value !== DEFAULT && { preset: $("preset").value }),
    ...($("resolution").value && { resolution: Number($("resolution").value) }),
  };
}

// Everything that a job was made with, for the same once more; null is left out, for that is the preset's.
export function again(job) {
  const { model, blend, ...rest } = job.request;
  const given = Object.entries({ ...rest, blend: blendOf(job) }).filter(([, value]) => value !== null);
  return Object.fromEntries(given);
}

export function fill(job) {
  const blend = blendOf(job);
  $("prompt").value = job.prompt;
  $("second").value = blend?.prompt ?? "";
  $("weight").value = Math.round(100 * (blend?.weight ?? 0.5));
  $("preset").value = job.request.preset;
  const usual = $("preset").selectedOptions[0]?.dataset.resolution;
  const detail = String(job.request.resolution);
  $("resolution").value = detail === usual ? "" : detail;
  if ($("resolution").selectedIndex < 0) $("resolution").value = "";
  if ($("preset").value !== DEFAULT || $("resolution").value) $("options").open = true;
  told();
}

function told() {
  const share = `${$("weight").value} %`;
  $("share").value = share;
  $("weight").disabled = !$("second").value.trim();
  $("weight").setAttribute("aria-valuetext", `${share} of the second object`);
  $("form").dispatchEvent(new Event("told"));
}

$("form").addEventListener("input", told);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("form").requestSubmit();
});
for (const example of document.querySelectorAll(".examples button")) {
  example.addEventListener("click", () => {
    $("prompt").value = example.textContent;
    $("second").value = "";
    told();
    $("form").requestSubmit();
  });
}
