// A page, and ingest on another origin: one that behaves as docs/sending-events.md says, or, with
// RIVULET_INGEST_URL and RIVULET_INGEST_KEY, the way to the real one. CHILD is then a child that is
// registered.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test as base } from "@playwright/test";

const real = process.env.RIVULET_INGEST_URL;
export const KEY = process.env.RIVULET_INGEST_KEY ?? "riv_test";
export const CHILD = process.env.CHILD ?? "0197a1b2-1111-7222-8333-444444444444";

const HEADERS =
  "authorization,x-request-id,traceparent,tracestate,baggage,sentry-trace,x-retry-count," +
  "content-type,content-encoding,x-sent-at";
const cors = {
  "Access-Control-Allow-Origin": "*",
  Vary: "Origin",
  "Access-Control-Expose-Headers": "retry-after",
};

const listen = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/** What the contract says of a request. */
function answer(request, body) {
  const path = request.url;
  const method = path === "/v1/config" ? "GET" : "POST";
  if (request.method === "OPTIONS") {
    return [
      200,
      "",
      {
        "Access-Control-Allow-Headers": HEADERS,
        "Access-Control-Allow-Methods": method,
        "Access-Control-Max-Age": "3600",
      },
    ];
  }
  if (request.headers.authorization !== `Bearer ${KEY}`) return [401, { code: "unauthorized" }];
  if (request.method !== method) return [405, { code: "method_not_allowed" }];
  if (path === "/v1/config") {
    return [
      200,
      { enabled: true, max_events: 1000, max_event_bytes: 65536, flush_interval_s: 30, consents: null },
    ];
  }
  const results = body.events.map(({ id }, index) => ({ index, id, outcome: "accepted" }));
  return [
    200,
    {
      request_id: "r",
      received_at: new Date().toISOString(),
      accepted: results.length,
      rejected: 0,
      retry: 0,
      results,
    },
  ];
}

class Ingest {
  /** Ids of events that were answered accepted, as often as they came. */
  accepted = [];
  /** Requests with events. */
  posts = [];
  /** Answers nothing, as a network that is gone. */
  isDown = false;
  #server = createServer((request, response) =>
    this.#serve(request, response).catch(() => response.destroy()),
  );

  async open() {
    this.url = `http://127.0.0.1:${await listen(this.#server)}`;
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const wire = Buffer.concat(chunks);
    if (this.isDown) return void request.socket.destroy();
    const zipped = request.headers["content-encoding"] === "gzip";
    const body = wire.length ? JSON.parse(zipped ? gunzipSync(wire) : wire) : undefined;
    let status, said, headers;
    if (real) {
      const { host: _, connection: __, "content-length": ___, ...sent } = request.headers;
      const through = await fetch(real + request.url, {
        method: request.method,
        headers: sent,
        body: wire.length ? wire : undefined,
      });
      status = through.status;
      said = await through.text();
      headers = Object.fromEntries(
        [...through.headers].filter(
          ([name]) => !/^(content-length|content-encoding|transfer|connection)/.test(name),
        ),
      );
    } else {
      [status, said, headers] = answer(request, body);
      said = typeof said === "string" ? said : JSON.stringify(said);
      headers = { "Content-Type": "application/json", ...cors, ...headers };
    }
    if (body) {
      this.posts.push({ body, bytes: wire.length, headers: request.headers });
      if (status === 200) {
        const { results } = JSON.parse(said);
        this.accepted.push(...results.filter(({ outcome }) => outcome === "accepted").map(({ id }) => id));
      }
    }
    response.writeHead(status, headers).end(said);
  }
}

/** Pages of the site, by path, beside the empty one. */
export const pages = {};
const dist = (name) => new URL(`../dist/${name}`, import.meta.url);
const files = { "/sdk.js": dist("index.js") };
for (const name of ["browser.min.js", "browser-session.min.js"]) {
  files[`/node_modules/@rivulet/sdk/dist/${name}`] = dist(name);
}

export const test = base.extend({
  ingest: async ({}, use) => {
    const ingest = new Ingest();
    await ingest.open();
    await use(ingest);
    ingest.close();
  },
  /** The address of a page. */
  site: async ({}, use) => {
    const server = createServer((request, response) => {
      const file = files[request.url];
      response.writeHead(200, { "Content-Type": file ? "text/javascript" : "text/html" });
      response.end(
        file ? readFileSync(file) : (pages[request.url] ?? "<!doctype html><title>An app</title>"),
      );
    });
    const port = await listen(server);
    await use(`http://127.0.0.1:${port}/`);
    server.closeAllConnections();
    server.close();
  },
  /** Opens the SDK in a page, with these options. */
  start: async ({ ingest }, use) => {
    const errors = [];
    await use(async (page, options = {}) => {
      page.on("pageerror", (error) => errors.push(error));
      await page.evaluate(
        async ([url, credential, child, { local, ...options }]) => {
          const sdk = await import("/sdk.js");
          if (local) options.store = sdk.localStore(local);
          window.log = [];
          window.rivulet = sdk.open({ url, credential, debug: (line) => window.log.push(line), ...options });
          window.child = window.rivulet.child(child);
          await window.rivulet.flush();
        },
        [ingest.url, KEY, CHILD, options],
      );
    });
    expect(errors).toEqual([]);
  },
});

/** Tracks so many events in a page; gives their ids. */
export const track = (page, count) =>
  page.evaluate(async (count) => {
    const made = Array.from({ length: count }, (_, at) =>
      window.child.answer({ correct: at % 2 === 0, subject: "math" }),
    );
    return (await Promise.all(made)).map(({ id }) => id);
  }, count);

export const flush = (page) => page.evaluate(() => window.rivulet.flush());
export const stats = (page) => page.evaluate(() => window.rivulet.stats());
export const sorted = (list) => [...list].sort();
