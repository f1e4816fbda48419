// The server: requests that carry the key of this tab, and what goes wrong as a Problem.
export class Problem extends Error {
  // From problem+json: `faults` has one entry a broken field, `retry` is in seconds; no status means no answer.
  constructor(title, detail, { status, faults = [], retry, request } = {}) {
    super(detail || "");
    Object.assign(this, { title, status, faults, retry, request });
  }
}

const KEY = "scaledreamer-key";
export const key = () => sessionStorage.getItem(KEY);
export const keep = (secret) => sessionStorage.setItem(KEY, secret);

// Addresses in a job are absolute; only the path is used, so the page also works behind a proxy.
export const local = (address) => new URL(address, location.href).pathname;
export const addressOf = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

export async function reach(path, options = {}) {
  const headers = { ...options.headers, ...(key() && { authorization: `Bearer ${key()}` }) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Problem("The server does not answer", "Is it still running? Start it again with: scaledreamer serve");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) {
    sessionStorage.removeItem(KEY);
    document.dispatchEvent(new Event("locked"));
  }
  const body = await answer.json().catch(() => ({}));
  throw new Problem(body.title || `The server answered ${answer.status}`, body.detail, {
    status: answer.status,
    faults: body.errors,
    retry: Number(answer.headers.get("retry-after")) || undefined,
    request: answer.headers.get("x-request-id"),
  });
}

export const ask = async (path, options) => (await reach(path, options)).json();

export const post = (path, body = {}, signal = undefined) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });

// What a link or a picture can load: a page cannot add a key to those, so with a key a file comes as a blob.
export const content = async (path) => (key() ? URL.createObjectURL(await (await reach(path)).blob()) : path);
