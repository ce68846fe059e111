// Every store keeps the same promises. IndexedDB is that of a test here, and Chromium's in test-browser/.
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import { test } from "node:test";
import { indexedDbStore, memoryStore } from "../dist/index.js";
import { fileStore } from "../dist/node.js";
import { appState, asyncStorage } from "../dist/react-native.js";
import { CHILD, WALL, client, folder, scripted } from "./support.js";

const entry = (id, size = 10) => ({
  id,
  epoch: "e",
  set: 0,
  at: WALL,
  child: CHILD,
  type: "message",
  size,
  json: `{"id":"${id}"}`,
});

/** AsyncStorage in memory, which may be killed after so many writes. */
function storage(items = new Map()) {
  const writes = { left: Infinity };
  const write = async (work) => {
    if (writes.left-- <= 0) throw new Error("killed");
    work();
  };
  return {
    items,
    writes,
    getAllKeys: async () => [...items.keys()],
    getItem: async (key) => items.get(key) ?? null,
    setItem: (key, value) => write(() => items.set(key, value)),
    removeItem: (key) => write(() => items.delete(key)),
  };
}

let made = 0;
const stores = {
  memory: () => memoryStore(),
  file: (t) => fileStore(folder(t)),
  indexeddb: () => indexedDbStore(`db${made++}`),
  asyncstorage: () => asyncStorage(storage(new Map([["another", "app's"]]))),
};

for (const [name, make] of Object.entries(stores)) {
  test(`${name}: the oldest overflow, and what is not there counts nothing`, async (t) => {
    const store = make(t);
    assert.equal(store.name, name);
    await store.open({ maxEvents: 3, maxBytes: 100 });
    t.after(() => store.close());
    assert.deepEqual(await store.apply({ add: [entry("1"), entry("2")], offset: ["e", 5] }), []);
    assert.deepEqual(await store.apply({ add: [entry("3"), entry("4")], count: { "told.overflow": 2 } }), [
      "1",
    ]);
    assert.deepEqual(
      (await store.read(2)).entries.map(({ id }) => id),
      ["2", "3"],
    );
    await store.apply({
      remove: [
        ["2", "accepted"],
        ["2", "accepted"],
        ["1", "accepted"],
        ["4", "rejected.too_old"],
      ],
    });
    assert.deepEqual(await store.read(9), {
      queued: 1,
      bytes: 10,
      set: 0,
      counts: { "dropped.overflow": 1, "told.overflow": 2, accepted: 1, "rejected.too_old": 1 },
      offsets: { e: 5 },
      entries: [entry("3")],
    });
    assert.deepEqual(await store.apply({ add: [entry("5", 60), entry("6", 60)] }), ["3", "5"]);
    await store.apply({
      add: [entry("7")],
      remove: [
        ["6", "accepted"],
        ["7", "accepted"],
      ],
      offset: ["f", 6],
    });
    const { entries, ...empty } = await store.read(9);
    assert.deepEqual([empty.queued, empty.bytes, entries], [0, 0, []]);
    assert.deepEqual(empty.offsets, { f: 6 });
    assert.equal(empty.counts.accepted, 3);
  });
}

test("wherever a process with AsyncStorage ends, no event is lost and none is counted twice", async () => {
  const before = storage();
  const store = asyncStorage(before);
  await store.open({ maxEvents: 4, maxBytes: 1_000 });
  await store.apply({ add: ["1", "2", "3", "4"].map((id) => entry(id)) });
  for (let writes = 0; writes <= 8; writes++) {
    const items = new Map(before.items);
    const mortal = storage(items);
    const killed = asyncStorage(mortal);
    await killed.open({ maxEvents: 4, maxBytes: 1_000 });
    mortal.writes.left = writes;
    const change = {
      add: [entry("5")],
      remove: [
        ["1", "accepted"],
        ["2", "rejected.too_old"],
      ],
      count: { "told.x": 1 },
    };
    const made = await killed.apply(change).then(
      () => true,
      () => false,
    );
    const again = asyncStorage(storage(items));
    await again.open({ maxEvents: 4, maxBytes: 1_000 });
    const { entries, counts } = await again.read(9);
    const ids = entries.map(({ id }) => id);
    for (const id of ["3", "4"]) assert.ok(ids.includes(id));
    const counted = (counts.accepted ?? 0) + (counts["rejected.too_old"] ?? 0);
    assert.equal(ids.filter((id) => "12".includes(id)).length + counted, 2, `${writes} writes`);
    if (made) assert.deepEqual([ids, counted], [["3", "4", "5"], 2]);
  }
});

test("two tabs share IndexedDB; without Web Locks each sends, and each event is counted once", async (t) => {
  // Newer releases of Node have them too.
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
  const server = await scripted(t);
  const one = client(t, server.url, { store: indexedDbStore("tabs") });
  const two = client(t, server.url, { store: indexedDbStore("tabs") });
  const made = [];
  for (let i = 0; i < 5; i++) for (const { child } of [one, two]) made.push((await child.view()).id);
  // Both at once.
  await Promise.all([one.rivulet.flush(), two.rivulet.flush()]);
  made.push((await two.child.view()).id);
  assert.equal((await two.rivulet.flush()).queued, 0);
  assert.equal((await two.rivulet.stats()).sends, true);
  const sent = new Map();
  for (const { body } of server.posts) {
    for (const event of body.events) {
      // Whatever is sent twice is the same each time, so the server counts it once.
      if (sent.has(event.id)) assert.deepEqual(event, sent.get(event.id));
      sent.set(event.id, event);
    }
  }
  assert.deepEqual([...sent.keys()].sort(), made.sort());
  for (const { rivulet } of [one, two]) assert.equal((await rivulet.stats()).accepted, 11);
});

test("React Native's AppState is followed", () => {
  let change;
  let removed = false;
  const seen = [];
  const end = appState({
    addEventListener: (type, listener) => {
      change = listener;
      return {
        remove: () => {
          removed = true;
        },
      };
    },
  })((foreground) => seen.push(foreground));
  for (const state of ["inactive", "background", "active"]) change(state);
  end();
  assert.deepEqual([seen, removed], [[false, false, true], true]);
});

test("in the background of an app that is no page what waits is sent", async (t) => {
  const server = await scripted(t);
  let tell;
  const lifecycle = (listener) => {
    tell = listener;
    return () => {};
  };
  const { rivulet, child } = client(t, server.url, {
    automatic: true,
    lifecycle,
    store: asyncStorage(storage()),
  });
  await rivulet.flush();
  await child.view();
  tell(false);
  await rivulet.flush();
  assert.equal((await rivulet.stats()).accepted, 1);
});
