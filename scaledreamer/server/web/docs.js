// The API page: /openapi.json as plain HTML.
const node = (name, className, ...children) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
};
const kind = (schema) => {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kind).join(" | ");
  if (schema.type === "array") return `list of ${kind(schema.items || {})}`;
  return schema.type || "any";
};
const table = (head, rows) => {
  const line = (cell, values) => node("tr", "", ...values.map((value) => node(cell, "", value)));
  return node("table", "", node("thead", "", line("th", head)), node("tbody", "", ...rows.map((row) => line("td", row))));
};

const api = await (await fetch("/openapi.json")).json();
const followed = (schema) => (schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema);
const blocks = Object.entries(api.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => {
    const block = node("article", "endpoint", node("h2", "", node("span", "method", method.toUpperCase()), node("code", "", path)));
    block.append(node("p", "", operation.summary || ""), node("p", "hint", operation.description || ""));
    const body = followed(operation.requestBody?.content["application/json"].schema);
    if (body) {
      const required = body.required || [];
      const rows = Object.entries(body.properties).map(([name, field]) => [
        name, kind(field), required.includes(name) ? "required" : JSON.stringify(field.default ?? null), field.description || "",
      ]);
      block.append(table(["field", "type", "default", ""], rows));
    }
    const rows = Object.entries(operation.responses).map(([status, response]) => [status, response.description, Object.keys(response.content || {}).join(", ")]);
    block.append(table(["status", "", "content"], rows));
    return block;
  }));
const job = api.components.schemas.Job.properties;
const shape = node("article", "endpoint", node("h2", "", "A job"),
  table(["field", "type"], Object.entries(job).map(([name, field]) => [name, kind(field)])));
document.getElementById("endpoints").replaceChildren(...blocks, shape);
