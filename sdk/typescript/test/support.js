// What the tests share: a server on loopback that answers as it is told, and clocks that stand.
import { createServer } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { memoryStore, open } from "../dist/index.js";

export const CHILD = "0197a1b2-1111-7222-8333-444444444444";
export const WALL = Date.parse("2026-05-04T09:30:00Z");

export const config = (more) => ({
  enabled: true, max_events: 1_000, max_event_bytes: 65_536, flush_interval_s: 30, consents: null, ...more,
});

/** What the server says of a batch: every event accepted, or what `outcome` says of each. */
export const results = (events, outcome = () => ({ outcome: "accepted" }), received_at = WALL) => ({
  request_id: "r",
  received_at: new Date(received_at).toISOString(),
  results: events.map((event, index) => ({ index, id: event.id, ...outcome(event, index) })),
});

/**
 * A server whose answers are the functions in `answers`, one a POST, the last one again and again: given the body they
 * give `[status, body, headers]`, or "hang", or "break". `posts` is what came.
 */
export async function scripted(t, answers = [], theConfig = () => [200, config()]) {
  const posts = [];
  const configs = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { authorization, "content-encoding": encoding } = request.headers;
    let answer;
    if (request.url === "/v1/config") {
      configs.push({ authorization });
      answer = theConfig(configs.length);
    } else {
      const bytes = Buffer.concat(chunks);
      const text = (encoding === "gzip" ? gunzipSync(bytes) : bytes).toString();
      const post = { authorization, headers: request.headers, text, body: JSON.parse(text) };
      posts.push(post);
      const next = answers.length > 1 ? answers.shift() : answers[0];
      answer = next ? next(post.body, post) : [200, results(post.body.events)];
    }
    if (answer === "hang") return;
    if (answer === "break") return request.socket.destroy();
    const [status, body, headers = {}] = answer;
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, posts, configs };
}

/** Clocks that go when they are told. */
export function clocks() {
  let wall = WALL;
  let monotonic = 1_000;
  return {
    wall: () => wall,
    monotonic: () => monotonic,
    pass(ms) {
      wall += ms;
      monotonic += ms;
    },
    set(ms) {
      wall += ms;
    },
  };
}

/** A client in which nothing happens by itself, and what it told the app. */
export function client(t, url, options = {}) {
  const told = { rejected: [], dropped: [], stopped: [], refused: [], log: [] };
  const clock = options.clock ?? clocks();
  const rivulet = open({
    url,
    credential: "key",
    store: memoryStore(),
    automatic: false,
    random: () => 0.5,
    timeoutMs: 5_000,
    onRejected: (rejection) => told.rejected.push(rejection),
    onDropped: (reason, count) => told.dropped.push([reason, count]),
    onStopped: (reason) => told.stopped.push(reason),
    onRefused: (...refusal) => told.refused.push(refusal),
    debug: (line) => told.log.push(line),
    ...options,
    clock,
  });
  t.after(() => rivulet.close());
  return { rivulet, child: rivulet.child(CHILD), clock, told };
}

/** A folder that is gone after the test. */
export function folder(t) {
  const dir = mkdtempSync(join(tmpdir(), "rivulet-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
