import { randomHex } from "./clock.js";
import { offsetsAfter, raise, type Bounds, type Entry, type State, type Store } from "./store.js";

/** How long a tab sends without asking again where there are no Web Locks, in ms. Longer than any request. */
const LEASE = 60_000;

const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Events in IndexedDB, which all tabs share and one sends. */
export function indexedDbStore(name: string): Store {
  const tab = randomHex(16);
  let bounds: Bounds;
  let connection: Promise<IDBDatabase> | undefined;
  let asked: Promise<void> | undefined;
  let leads = false;
  let release: (() => void) | undefined;

  const connect = (): Promise<IDBDatabase> => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("events", { keyPath: "id" });
      request.result.createObjectStore("kept");
    };
    return done(request);
  };

  type Work<T> = (events: IDBObjectStore, kept: IDBObjectStore) => Promise<T>;
  const transaction = async <T>(mode: IDBTransactionMode, work: Work<T>): Promise<T> => {
    try {
      const db = await (connection ??= connect());
      const on = db.transaction(["events", "kept"], mode);
      const [result] = await Promise.all([
        work(on.objectStore("events"), on.objectStore("kept")),
        new Promise<void>((resolve, reject) => {
          on.oncomplete = () => resolve();
          on.onabort = () => reject(on.error);
        }),
      ]);
      return result;
    } catch (error) {
      // Safari closes connections of pages in the background: the next one is made anew.
      connection = undefined;
      throw error;
    }
  };

  const stateOf = async (kept: IDBObjectStore): Promise<State> =>
    (await done(kept.get("state"))) ?? { queued: 0, bytes: 0, counts: {}, offsets: {} };

  /** Takes the lease for so long, in ms, unless another tab has it. */
  const claim = (ms: number): Promise<boolean> =>
    transaction("readwrite", async (_, kept) => {
      const lease = await done(kept.get("lease"));
      const left = lease?.until - Date.now();
      // One that is longer than any is of a clock that was set back.
      if (lease?.tab !== tab && left > 0 && left <= LEASE) return false;
      kept.put({ tab, until: Date.now() + ms }, "lease");
      return true;
    });

  return {
    name: "indexeddb",

    async open(within) {
      bounds = within;
      await transaction("readonly", stateOf as Work<unknown>);
    },

    apply: ({ add = [], remove = [], count = {}, offset }) =>
      transaction("readwrite", async (events, kept) => {
        const state = await stateOf(kept);
        const gone = (entry: Entry, counter: string): void => {
          events.delete(entry.id);
          state.queued--;
          state.bytes -= entry.size;
          raise(state.counts, counter);
        };
        for (const entry of add) {
          events.put(entry);
          state.queued++;
          state.bytes += entry.size;
        }
        for (const [id, counter] of remove) {
          const entry = await done(events.get(id));
          if (entry) gone(entry, counter);
        }
        const overflow: string[] = [];
        while (state.queued > bounds.maxEvents || state.bytes > bounds.maxBytes) {
          const [oldest] = await done(events.getAll(null, 1));
          gone(oldest, "dropped.overflow");
          overflow.push(oldest.id);
        }
        for (const name in count) raise(state.counts, name, count[name]);
        state.offsets = offsetsAfter(state, offset);
        kept.put(state, "state");
        return overflow;
      }),

    read: (limit) =>
      transaction("readonly", async (events, kept) => ({
        ...(await stateOf(kept)),
        entries: limit ? await done(events.getAll(null, limit)) : [],
      })),

    async leads() {
      const locks = globalThis.navigator?.locks;
      if (!locks) return claim(LEASE);
      const hold = (): Promise<void> => {
        leads = true;
        return new Promise((end) => (release = end));
      };
      // The first answer says whether another tab has it; then it waits for that tab to go.
      asked ??= new Promise((answered) => {
        void locks.request(name, { ifAvailable: true }, (lock) => {
          if (!lock) void locks.request(name, hold);
          answered();
          return lock && hold();
        });
      });
      await asked;
      return leads;
    },

    async close() {
      release?.();
      if (!globalThis.navigator?.locks) await claim(0);
      (await connection)?.close();
    },
  };
}
