// The mesh on the screen and what is known of it.
import { content, local, Problem } from "/web/api.js";
import { $ } from "/web/dom.js";

const viewer = $("viewer");
let address = null; // of the mesh that is shown or on its way

export function clear(words) {
  address = null;
  viewer.src = null;
  viewer.alt = "No mesh yet";
  $("empty").textContent = words;
  $("empty").hidden = false;
  $("facts").hidden = true;
}

const meshOf = (job) => job.files.find((file) => file.role === "mesh" && file.format === "glb");

export function factsOf(job) {
  const faces = job.report?.levels?.[0]?.facts?.faces;
  const sides = job.report?.size?.extent_m;
  return [
    faces && `${faces.toLocaleString("en")} faces`,
    sides && `${sides.map((side) => side.toFixed(2)).join(" × ")} m`,
    job.model,
  ].filter(Boolean).join(" · ");
}

function loaded(source) {
  return new Promise((resolve, reject) => {
    const done = (event) => {
      if (event.type === "error" && event.detail?.type !== "loadfailure") return;
      viewer.removeEventListener("load", done);
      viewer.removeEventListener("error", done);
      if (event.type === "load") resolve();
      else reject(new Problem("The mesh cannot be shown here", "This browser could not draw it; the downloads work."));
    };
    viewer.addEventListener("load", done);
    viewer.addEventListener("error", done);
    viewer.src = source;
  });
}

export async function show(job) {
  const mesh = meshOf(job);
  if (!mesh) return clear("This job has no GLB to show; its files can be downloaded.");
  $("facts").textContent = factsOf(job);
  $("facts").hidden = false;
  $("empty").hidden = true;
  viewer.alt = `3D mesh: ${job.prompt}`;
  const wanted = local(mesh.url);
  if (wanted === address) return;
  address = wanted;
  const source = await content(wanted);
  if (wanted !== address) return;
  try {
    await loaded(source);
  } catch (problem) {
    if (wanted !== address) return;
    address = null;
    throw problem;
  } finally {
    if (source.startsWith("blob:")) URL.revokeObjectURL(source);
  }
}
