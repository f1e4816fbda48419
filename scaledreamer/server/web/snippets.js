// The request of the form as a curl command and as a Python program, shown and copied.
import { key } from "/web/api.js";
import { $ } from "/web/dom.js";
import { wanted } from "/web/form.js";

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const slug = (prompt) => prompt.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "").slice(0, 60) || "mesh";

export function curl(request) {
  const lines = [`curl -X POST ${location.origin}/generate`, "-H 'Accept: model/gltf-binary'"];
  if (key()) lines.push('-H "Authorization: Bearer $KEY"');
  lines.push(`-d ${quoted(JSON.stringify(request))}`, `-o ${slug(request.prompt)}.glb`);
  return lines.join(" \\\n  ");
}

// What JSON calls strings, numbers, lists and objects, Python reads as the same.
export function python(request) {
  const { prompt, ...fields } = request;
  const given = Object.entries(fields).map(([name, value]) => `, ${name}=${JSON.stringify(value)}`).join("");
  const server = JSON.stringify(location.origin) + (key() ? ', key=os.environ["KEY"]' : "");
  return [
    ...(key() ? ["import os", ""] : []),
    "from scaledreamer.client import Client",
    "",
    `with Client(${server}) as server:`,
    `    job = server.generate(${JSON.stringify(prompt)}${given})`,
    `    server.download(job, ${JSON.stringify(slug(prompt))})`,
  ].join("\n");
}

export function write() {
  $("curl").textContent = curl(wanted());
  $("python").textContent = python(wanted());
  $("copied").textContent = "";
}

async function copy(id) {
  try {
    await navigator.clipboard.writeText($(id).textContent);
    $("copied").textContent = "Copied.";
  } catch {
    // The clipboard is open to pages of https and of this machine only.
    getSelection().selectAllChildren($(id));
    $("copied").textContent = "It is selected: press Ctrl+C.";
  }
}

$("form").addEventListener("told", write);
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(button.dataset.copy));
}
write();
