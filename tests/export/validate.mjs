// node validate.mjs FILE: the Khronos validator's report as JSON (run `make setup` first).
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import validator from "gltf-validator";

const file = resolve(process.argv[2]);
const report = await validator.validateBytes(new Uint8Array(await readFile(file)), {
  uri: file,
  maxIssues: 0,
  externalResourceFunction: async (uri) =>
    new Uint8Array(await readFile(resolve(dirname(file), decodeURIComponent(uri)))),
});
console.log(JSON.stringify(report));
