// The download menu: every file of the job, and buttons for the formats that it does not have yet.
import { content, key, local } from "/web/api.js";
import { $, node } from "/web/dom.js";

const FORMATS = ["glb", "gltf", "obj", "ply", "stl"];
const ROLES = {
  bundle: "everything", mesh: "mesh", lod: "level of detail", collision: "collision hull", texture: "texture", material: "material",
  buffer: "buffer", thumbnail: "picture", turntable: "turntable", report: "report", manifest: "manifest",
};
const sizes = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const size = (bytes) => (bytes < 1e6 ? `${sizes.format(bytes / 1e3)} kB` : `${sizes.format(bytes / 1e6)} MB`);
const menu = $("downloads");

function link(file, wrong) {
  const path = local(file.url);
  const anchor = node("a", { href: path, download: file.name }, node("span", {}, file.name), node("small", {}, `${ROLES[file.role] || file.role} · ${size(file.bytes)}`));
  anchor.dataset.format = file.format;
  anchor.addEventListener("click", async (event) => {
    if (!key() || anchor.href.startsWith("blob:")) return;
    event.preventDefault();
    try {
      anchor.href = await content(path);
      anchor.click();
    } catch (problem) {
      wrong(problem);
    }
  });
  return node("li", {}, anchor);
}

export function offer(job, make, wrong) {
  const order = Object.keys(ROLES);
  const files = job.files.toSorted((one, other) => order.indexOf(one.role) - order.indexOf(other.role));
  $("files").replaceChildren(...files.map((file) => link(file, wrong)));
  const missing = FORMATS.filter((format) => !job.request.formats.includes(format));
  const buttons = missing.map((format) => {
    const button = node("button", { type: "button", onclick: () => { menu.open = false; make(format); } }, format.toUpperCase());
    button.setAttribute("aria-label", `Make ${format.toUpperCase()}`);
    return button;
  });
  $("formats").replaceChildren("Make also", ...buttons);
  $("formats").hidden = !missing.length;
  menu.hidden = false;
}

export function withdraw() {
  menu.open = false;
  menu.hidden = true;
}

export function present(format) {
  menu.open = true;
  $("files").querySelector(`[data-format="${format}"]`)?.focus();
}

export function close() {
  if (!menu.open) return false;
  menu.open = false;
  menu.querySelector("summary").focus();
  return true;
}

document.addEventListener("click", (event) => {
  if (!menu.contains(event.target)) menu.open = false;
});
menu.addEventListener("focusout", (event) => {
  if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
});
