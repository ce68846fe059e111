import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdirSync, readFileSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileStore } from "../dist/node.js";
import { CHILD, WALL, folder, results, scripted } from "./support.js";

const bounds = { maxEvents: 6, maxBytes: 10_000 };
const entry = (id, text = "") => ({
  id, epoch: "e", at: WALL, child: CHILD, type: "interaction", size: 2 + text.length, json: `{}${text}`,
});

/** Random numbers that are the same each time. */
const random = (seed) => () => {
  seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
  return seed / 2 ** 31;
};

/** A random change, of events of which some are there. */
function someChange(draw, ids) {
  const pick = (list) => list[Math.floor(draw() * list.length)];
  const change = {};
  if (draw() < 0.7) {
    change.add = Array.from({ length: 1 + Math.floor(draw() * 2) }, () => entry(`id${ids.length}`, "ü\n\"".repeat(draw() * 4)));
    ids.push(...change.add.map(({ id }) => id));
  }
  if (ids.length && draw() < 0.5) change.remove = [[pick(ids), pick(["accepted", "rejected.too_old", "dropped.expired"])]];
  if (draw() < 0.3) change.count = { "told.overflow": 1 };
  if (draw() < 0.3) change.offset = [pick(["e", "f"]), Math.floor(draw() * 1_000)];
  return change;
}

test("wherever the journal is cut, the store is as after its last whole change", async (t) => {
  for (let seed = 1; seed <= 3; seed++) {
    const draw = random(seed);
    const dir = folder(t);
    const file = join(dir, "journal.jsonl");
    const store = fileStore(dir);
    await store.open(bounds);
    const states = [[0, await store.read(100)]];
    const ids = [];
    for (let i = 0; i < 7; i++) {
      await store.apply(someChange(draw, ids));
      states.push([statSync(file).size, await store.read(100)]);
    }
    await store.close();
    const whole = readFileSync(file);
    const copy = folder(t);
    mkdirSync(copy, { recursive: true });
    for (let cut = 0; cut <= whole.length; cut++) {
      writeFileSync(join(copy, "journal.jsonl"), whole.subarray(0, cut));
      const again = fileStore(copy);
      await again.open(bounds);
      const [, expected] = states.findLast(([end]) => end <= cut);
      assert.deepEqual(await again.read(100), expected, `seed ${seed}, cut at ${cut} of ${whole.length}`);
      if (cut % 5) {
        await again.close();
        continue;
      }
      // What comes next is not glued to the rest of a line.
      await again.apply({ add: [entry("next")] });
      const after = await again.read(100);
      await again.close();
      const third = fileStore(copy);
      await third.open(bounds);
      assert.deepEqual(await third.read(100), after);
      assert.equal(after.entries.at(-1).id, "next");
      await third.close();
    }
  }
});

test("a line that the disk lost takes no other with it", async (t) => {
  const dir = folder(t);
  const store = fileStore(dir);
  await store.open(bounds);
  await store.apply({ add: [entry("a")] });
  await store.close();
  appendFileSync(join(dir, "journal.jsonl"), "\0\0\0\n" + JSON.stringify({ add: [entry("b")] }) + "\n");
  const again = fileStore(dir);
  await again.open(bounds);
  t.after(() => again.close());
  assert.deepEqual((await again.read(9)).entries.map(({ id }) => id), ["a", "b"]);
});

test("a journal that has grown is written anew, and says the same", async (t) => {
  const dir = folder(t);
  const store = fileStore(dir);
  await store.open({ maxEvents: 100, maxBytes: 1_000_000 });
  const text = "x".repeat(20_000);
  let largest = 0;
  for (let i = 0; i < 300; i++) {
    await store.apply({ add: [entry(`id${i}`, text)], remove: [[`id${i - 3}`, "accepted"]], offset: ["e", i] });
    largest = Math.max(largest, statSync(join(dir, "journal.jsonl")).size);
  }
  assert.ok(largest < 1_300_000, `${largest}`);
  const before = await store.read(10);
  await store.close();
  const again = fileStore(dir);
  await again.open(bounds);
  t.after(() => again.close());
  assert.deepEqual(await again.read(10), before);
  assert.deepEqual([before.queued, before.counts.accepted, before.offsets], [3, 297, { e: 299 }]);
});

test("an overflow and its counter are one change", async (t) => {
  const dir = folder(t);
  const store = fileStore(dir);
  await store.open({ maxEvents: 2, maxBytes: 1_000 });
  assert.deepEqual(await store.apply({ add: [entry("a"), entry("b"), entry("c")] }), ["a"]);
  // What has overflowed counts for nothing else.
  await store.apply({ remove: [["a", "accepted"], ["b", "accepted"], ["b", "accepted"]] });
  const { queued, counts } = await store.read(0);
  assert.deepEqual({ queued, counts }, { queued: 1, counts: { "dropped.overflow": 1, accepted: 1 } });
  await store.close();
  const lines = readFileSync(join(dir, "journal.jsonl"), "utf8").trim().split("\n");
  assert.equal(lines.length, 2);
});

test("a write that fails changes nothing, and what comes next is whole", async (t) => {
  const dir = folder(t);
  const file = join(dir, "journal.jsonl");
  const store = fileStore(dir);
  await store.open(bounds);
  await store.apply({ add: [entry("a")] });
  const { size } = statSync(file);
  // As a full disk leaves it: half a line, longer than what comes next.
  appendFileSync(file, `{"add":[{"id":"${"b".repeat(500)}`);
  await store.apply({ add: [entry("c")] });
  await store.close();
  const again = fileStore(dir);
  await again.open(bounds);
  assert.deepEqual((await again.read(9)).entries.map(({ id }) => id), ["a", "c"]);
  await again.close();
  truncateSync(file, size);
});

test("a folder is one process's: a second is refused, a killed one is not in the way", async (t) => {
  const dir = folder(t);
  const first = fileStore(dir);
  await first.open(bounds);
  await assert.rejects(fileStore(dir).open(bounds), { code: "in_use" });
  await first.close();
  const second = fileStore(dir);
  await second.open(bounds);
  await second.close();
  assert.deepEqual(readdirSync(dir), ["journal.jsonl"]);
});

/** A driver of the conformance suite. */
function driver(t) {
  const process = spawn("node", [new URL("../conformance/driver.mjs", import.meta.url).pathname]);
  process.stderr.pipe(globalThis.process.stderr);
  t.after(() => process.kill("SIGKILL"));
  const lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
  const ask = async (op, more) => {
    process.stdin.write(JSON.stringify({ op, ...more }) + "\n");
    return JSON.parse((await lines.next()).value);
  };
  return { ask, process };
}

test("what was tracked survives kill -9, and so do the counters", async (t) => {
  const dir = folder(t);
  let kill;
  const server = await scripted(t, [
    ({ events }) => [200, results(events)],
    // The server has them, and the client dies before it knows.
    () => (kill(), "hang"),
    ({ events }) => [200, results(events, () => ({ outcome: "rejected", code: "too_old" }))],
  ]);
  const open = { dir, url: server.url, tokens: ["t"], wall_ms: WALL, monotonic_ms: 0 };
  const event = { child_id: CHILD, type: "interaction", data: { action: "view" } };
  const first = driver(t);
  assert.deepEqual(await first.ask("open", open), { ok: true });
  const { id } = await first.ask("track", event);
  assert.deepEqual(await first.ask("send"), { queued: 0, wait_ms: null, stopped: null });
  const { id: other } = await first.ask("track", event);
  assert.notEqual(id, other);
  const second = driver(t);
  assert.deepEqual(await second.ask("open", open), { ok: false, error: "in_use" });
  const died = once(first.process, "exit");
  kill = () => first.process.kill("SIGKILL");
  first.process.stdin.write('{"op":"send"}\n');
  await died;
  const third = driver(t);
  assert.deepEqual(await third.ask("open", open), { ok: true });
  assert.deepEqual(await third.ask("report"), { queued: 1, accepted: 1, rejected: {}, dropped: {} });
  await third.ask("send");
  assert.deepEqual(server.posts[2].body.events, server.posts[1].body.events);
  assert.deepEqual(await third.ask("report"), { queued: 0, accepted: 1, rejected: { too_old: 1 }, dropped: {} });
  assert.deepEqual(await third.ask("close"), { ok: true });
});

test("a socket that no process listens on is cleared away, a foreign one is not", async (t) => {
  const dir = folder(t);
  const other = createServer().listen(join(dir, "lock-other"));
  await once(other, "listening");
  await assert.rejects(fileStore(dir).open(bounds), { code: "in_use" });
  other.close();
  await once(other, "close");
  writeFileSync(join(dir, "lock-left"), "");
  const store = fileStore(dir);
  await store.open(bounds);
  await store.close();
  assert.deepEqual(readdirSync(dir), ["journal.jsonl"]);
});
