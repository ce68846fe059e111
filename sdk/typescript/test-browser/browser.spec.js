import { readFileSync } from "node:fs";
import { CHILD, KEY, flush, pages, sorted, stats, test, track } from "./support.js";
import { expect } from "@playwright/test";

test("offline, then online", async ({ page, context, site, ingest, start }) => {
  await page.goto(site);
  await start(page);
  await context.setOffline(true);
  const ids = await track(page, 3);
  expect(await flush(page)).toMatchObject({ queued: 3, stopped: null });
  expect(ingest.posts).toEqual([]);
  await context.setOffline(false);
  await expect.poll(() => sorted(ingest.accepted)).toEqual(sorted(ids));
  await expect
    .poll(() => stats(page))
    .toMatchObject({ queued: 0, accepted: 3, store: "indexeddb", sends: true });
  expect(ingest.posts[0].headers["content-encoding"]).toBe("gzip");
});

test("a full queue survives a reload", async ({ page, site, ingest, start }) => {
  await page.goto(site);
  ingest.isDown = true;
  await start(page, { maxEvents: 500 });
  const ids = await track(page, 520);
  expect(await flush(page)).toMatchObject({ queued: 500 });
  await page.reload();
  ingest.isDown = false;
  await start(page, { maxEvents: 500 });
  await expect.poll(() => ingest.accepted.length).toBe(500);
  expect(new Set([...ids, ...ingest.accepted]).size).toBe(520);
  expect(new Set(ingest.accepted).size).toBe(500);
  await expect.poll(() => stats(page)).toMatchObject({ queued: 0, accepted: 500, dropped: { overflow: 20 } });
  expect(ingest.posts.map(({ body }) => body.events.length)).toEqual([200, 200, 100]);
  expect(ingest.posts.map(({ body }) => body.dropped)).toEqual([{ overflow: 20 }, undefined, undefined]);
});

test("of two tabs one sends, and the other goes on when it is closed", async ({
  context,
  site,
  ingest,
  start,
}) => {
  const one = await context.newPage();
  const two = await context.newPage();
  for (const page of [one, two]) {
    await page.goto(site);
    await start(page);
  }
  const first = await track(one, 5);
  await flush(one);
  const second = await track(two, 5);
  expect(await flush(two)).toMatchObject({ queued: 5 });
  await flush(one);
  expect(sorted(ingest.accepted)).toEqual(sorted([...first, ...second]));
  expect([(await stats(one)).sends, (await stats(two)).sends]).toEqual([true, false]);
  const third = await track(two, 5);
  // Both at once.
  await Promise.all([flush(one), flush(two), flush(one), flush(two)]);
  const fourth = await track(two, 5);
  await one.close();
  await expect.poll(async () => (await flush(two)).queued).toBe(0);
  expect(sorted(ingest.accepted)).toEqual(sorted([...first, ...second, ...third, ...fourth]));
  expect(await stats(two)).toMatchObject({ accepted: 20, sends: true });
});

test("without Web Locks each of two tabs sends, nothing is lost, and each event is counted once", async ({
  context,
  site,
  ingest,
  start,
}) => {
  await context.addInitScript(() => delete Navigator.prototype.locks);
  const one = await context.newPage();
  const two = await context.newPage();
  for (const page of [one, two]) {
    await page.goto(site);
    await start(page);
  }
  const ids = [];
  for (let i = 0; i < 5; i++) {
    for (const page of [one, two]) ids.push(...(await track(page, 5)));
    await Promise.all([flush(one), flush(two)]);
  }
  await one.close();
  expect(await flush(two)).toMatchObject({ queued: 0 });
  // The server counts an id once.
  expect(sorted(new Set(ingest.accepted))).toEqual(sorted(ids));
  expect(await stats(two)).toMatchObject({ accepted: 50, sends: true });
});

test("a client that was closed while it waited for its turn is in nobody's way", async ({
  page,
  site,
  ingest,
  start,
}) => {
  await page.goto(site);
  await start(page);
  await page.evaluate(async (url) => {
    const sdk = await import("/sdk.js");
    const waits = sdk.open({ url, credential: "key" });
    await waits.flush();
    await waits.close();
    await window.rivulet.close();
  }, ingest.url);
  await start(page);
  const ids = await track(page, 2);
  expect(await flush(page)).toMatchObject({ queued: 0 });
  expect(sorted(ingest.accepted)).toEqual(sorted(ids));
});

test("a page that goes sends one batch of 60 kB at most, and keeps it until it is answered", async ({
  page,
  site,
  ingest,
  start,
}) => {
  await page.goto(site);
  await start(page);
  const { ids, session } = await page.evaluate(async () => {
    const { startSession } = await import("/sdk.js");
    const session = startSession(window.child, { kind: "quiz" });
    const topic = "x".repeat(90);
    const made = Array.from({ length: 198 }, () =>
      window.child.view({ topic, subject: topic, badge: topic }),
    );
    return { ids: (await Promise.all(made)).map(({ id }) => id), session: session.id };
  });
  expect(ingest.posts).toEqual([]);
  await page.goto("about:blank");
  await expect.poll(() => ingest.posts.length).toBe(1);
  const [{ bytes, headers, body }] = ingest.posts;
  expect(headers["content-encoding"]).toBe(undefined);
  expect(bytes).toBeGreaterThan(50_000);
  expect(bytes).toBeLessThanOrEqual(60_000);
  // The session's end is in time, though it was never stored.
  expect(body.events[0]).toMatchObject({ session_id: session, data: { action: "pause" } });
  // The rest waits for the next visit; nobody heard the answer.
  await page.goto(site);
  await start(page);
  await expect.poll(async () => (await flush(page)).queued).toBe(0);
  const arrived = new Set(ingest.accepted);
  for (const id of ids) expect(arrived.has(id)).toBe(true);
});

test("an event made as the page goes is sent", async ({ page, site, ingest, start }) => {
  await page.goto(site);
  await start(page);
  await page.evaluate(() => {
    addEventListener("pagehide", () => window.child.complete(), { capture: true });
    location.href = "about:blank";
  });
  await expect
    .poll(() => ingest.posts.flatMap(({ body }) => body.events.map(({ data }) => data.action)))
    .toEqual(["complete"]);
});

test("a consent that is withdrawn purges what waits", async ({ page, site, ingest, start }) => {
  await page.goto(site);
  ingest.isDown = true;
  await start(page);
  await track(page, 3);
  await page.evaluate(() => window.rivulet.setConsent({ coppa: false }));
  expect(await stats(page)).toMatchObject({ queued: 0, dropped: { consent: 3 } });
});

test("a tracer that adds its headers to fetch is not in the way", async ({ page, site, ingest, start }) => {
  await page.goto(site);
  await page.evaluate(() => {
    const { fetch } = window;
    window.fetch = (url, init) => {
      const headers = new Headers(init?.headers);
      headers.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
      headers.set("baggage", "sentry-environment=test");
      headers.set("sentry-trace", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1");
      return fetch(url, { ...init, headers });
    };
  });
  await start(page);
  const ids = await track(page, 2);
  expect(await flush(page)).toMatchObject({ queued: 0 });
  expect(sorted(ingest.accepted)).toEqual(sorted(ids));
  expect(ingest.posts[0].headers.baggage).toBe("sentry-environment=test");
});

test("a header that no page may send loses nothing", async ({ page, site, ingest, start }) => {
  await page.goto(site);
  await page.evaluate(() => {
    const { fetch } = window;
    window.fetch = (url, init) => fetch(url, { ...init, headers: { ...init?.headers, "X-Mine": "1" } });
  });
  await start(page);
  await track(page, 2);
  expect(await flush(page)).toMatchObject({ queued: 2 });
  expect(ingest.posts).toEqual([]);
});

test("without IndexedDB events wait in memory, or in localStorage if the app says so", async ({
  page,
  site,
  ingest,
  start,
}) => {
  await page.addInitScript(() => Object.defineProperty(window, "indexedDB", { value: undefined }));
  await page.goto(site);
  await start(page);
  const ids = await track(page, 3);
  expect(await flush(page)).toMatchObject({ queued: 0 });
  expect(await stats(page)).toMatchObject({ store: "memory", accepted: 3 });
  await page.reload();
  ingest.isDown = true;
  await start(page, { local: "app" });
  const more = await track(page, 3);
  expect(await stats(page)).toMatchObject({ store: "localstorage", queued: 3 });
  await page.reload();
  ingest.isDown = false;
  await start(page, { local: "app" });
  await expect.poll(() => sorted(ingest.accepted)).toEqual(sorted([...ids, ...more]));
  expect(await stats(page)).toMatchObject({ queued: 0, accepted: 3 });
});

test("docs/quickstart/browser.md works as pasted", async ({ page, site, ingest }) => {
  const text = readFileSync(new URL("../../../docs/quickstart/browser.md", import.meta.url), "utf8");
  const given = { RIVULET_INGEST_URL: ingest.url, RIVULET_INGEST_KEY: KEY, CHILD };
  const html = text.match(/<<END\n([^]*?)\n *END\n/)[1].replace(/\$([A-Z_]+)/g, (_, name) => given[name]);
  expect(html.split("\n").length).toBeLessThan(40);
  // Served in earnest: of a page that is made up here the browser lets no request go to loopback.
  pages["/quickstart"] = html;
  await page.goto(`${site}quickstart`);
  await page.getByRole("button", { name: "56" }).click();
  await expect(page.locator("pre")).toHaveText('{"accepted":2,"queued":0}');
  expect(ingest.posts.flatMap(({ body }) => body.events.map(({ data }) => data.is_correct))).toContain(true);
});
