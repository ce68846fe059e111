import { offsetsAfter, raise, type Bounds, type Entry, type State, type Store } from "./store.js";

const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Events in IndexedDB, which all tabs share and one sends; without Web Locks each one. */
export function indexedDbStore(name: string): Store {
  const locks = globalThis.navigator?.locks;
  let bounds: Bounds;
  let connection: Promise<IDBDatabase> | undefined;
  let asked: Promise<void> | undefined;
  let leads = false;
  let close: () => void;
  // Until then the lock is held. A tab that is closed while it waits for its turn gives it back at once.
  const closed = new Promise<void>((resolve) => (close = resolve));

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
        work(on.objectStore("events"), on.objectStore("kept")).catch((error) => {
          // Else what it had done by then would stay.
          on.abort();
          throw error;
        }),
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
    (await done(kept.get("state"))) ?? { queued: 0, bytes: 0, set: 0, counts: {}, offsets: {} };

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
          raise(state.counts, { [counter]: 1 });
        };
        for (const entry of add) {
          events.put(entry);
          state.queued++;
          state.bytes += entry.size;
          state.set = entry.set;
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
        raise(state.counts, count);
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
      // The first answer says whether another tab has it; then it waits for that tab to go.
      asked ??= new Promise((answered) => {
        const hold = (): Promise<void> => {
          leads = true;
          return closed;
        };
        const fails = (): void => {
          // No locks, or none that are allowed here: better sent twice than not at all.
          leads = true;
          answered();
        };
        if (!locks) return fails();
        const first = locks.request(name, { ifAvailable: true }, (lock) => {
          if (!lock) void locks.request(name, hold);
          answered();
          return lock && hold();
        });
        first.catch(fails);
      });
      await asked;
      return leads;
    },

    async close() {
      close();
      (await connection)?.close();
    },
  };
}
