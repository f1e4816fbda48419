// The events of a job, read with fetch: an EventSource cannot send a key.
import { Problem, reach } from "/web/api.js";

const PAUSE = 1000; // milliseconds before a connection that broke is taken up again

async function* read(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
      if (lines.data) yield { ...JSON.parse(lines.data), id: lines.id, kind: lines.event };
    }
  }
}

// Without an end of its own: who reads it stops at the last event. Says `lost` when the server is gone, and goes on.
export async function* events(path, signal) {
  for (let last = "0"; ; ) {
    try {
      const answer = await reach(path, { signal, headers: { "last-event-id": last } });
      yield { kind: "connected" };
      for await (const event of read(answer.body)) {
        last = event.id;
        yield event;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && error.status && error.status !== 503)) throw error;
      yield { kind: "lost" };
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    signal.throwIfAborted();
  }
}
