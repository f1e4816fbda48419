// node validate.mjs FILE...: the Khronos validator's report of each file, a line of JSON each (run `make setup` first).
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import validator from "gltf-validator";

for (const name of process.argv.slice(2)) {
  const file = resolve(name);
  const report = await validator.validateBytes(new Uint8Array(await readFile(file)), {
    uri: file,
    maxIssues: 0,
    externalResourceFunction: async (uri) =>
      new Uint8Array(await readFile(resolve(dirname(file), decodeURIComponent(uri)))),
  });
  console.log(JSON.stringify(report));
}
