// The driver of the conformance suite: JSON lines in, one line of answer each. Nothing happens by itself: time is what
// the suite says.
import { createInterface } from "node:readline";
import { open } from "../dist/index.js";
import { fileStore } from "../dist/node.js";

let now = { wall_ms: 0, monotonic_ms: 0 };
let rivulet;

const ops = {
  async open({ dir, url, tokens, max_events: maxEvents, max_bytes: maxBytes, ...clock }) {
    now = clock;
    let asked = 0;
    rivulet = open({
      url,
      credential: () => tokens[Math.min(asked++, tokens.length - 1)],
      store: fileStore(dir),
      ...(maxEvents && { maxEvents }),
      ...(maxBytes && { maxBytes }),
      timeoutMs: 2_000,
      automatic: false,
      clock: { wall: () => now.wall_ms, monotonic: () => now.monotonic_ms },
      debug: (line) => process.env.RIVULET_DRIVER_DEBUG && console.error(line),
    });
    try {
      await rivulet.ready;
      return { ok: true };
    } catch (error) {
      return { ok: false, error: error.code ?? String(error) };
    }
  },
  async clock({ wall_ms, monotonic_ms }) {
    now = { wall_ms, monotonic_ms };
    return { ok: true };
  },
  async track({ child_id, type, session_id: sessionId, data }) {
    const { id, stored, dropped } = await rivulet.track(child_id, { type, data, ...(sessionId && { sessionId }) });
    return stored ? { id } : { dropped: dropped ?? "disk" };
  },
  async send() {
    const { queued, waitMs, stopped } = await rivulet.flush();
    return { queued, wait_ms: waitMs, stopped };
  },
  async report() {
    const { queued, accepted, rejected, dropped } = await rivulet.stats();
    return { queued, accepted, rejected, dropped };
  },
  async credential({ token }) {
    rivulet.setCredential(token);
    return { ok: true };
  },
  async consent({ op: _, ...consent }) {
    await rivulet.setConsent(consent);
    return { ok: true };
  },
  async close() {
    await rivulet.close();
    return { ok: true };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  process.stdout.write(JSON.stringify(await ops[request.op](request)) + "\n");
}
await rivulet?.close();
