// Whether the server is there and its model loaded, again and again.
import { $ } from "/web/dom.js";

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// `back()` is called each time that the server can be reached.
export async function watch(back) {
  for (;;) {
    const answer = await fetch("/health/ready").catch(() => null);
    const words = answer?.ok ? "ready" : answer ? "not ready" : "offline";
    if ($("ready").textContent !== words) $("ready").textContent = words;
    $("ready").dataset.state = words;
    if (answer) back();
    await pause(answer?.ok ? 15000 : 1000);
  }
}
