import { nothing, offsetsAfter, raise, type Bounds, type Entry, type State, type Store } from "./store.js";
import { attempt } from "./transport.js";

const done = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Events in IndexedDB, which all tabs share and one sends; without Web Locks each one. */
export function indexedDbStore(name: string): Store {
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

  /** Does all of `work` or nothing. */
  const transaction = async <T>(
    work: (events: IDBObjectStore, state: State, kept: IDBObjectStore) => Promise<T>,
  ): Promise<T> => {
    try {
      const on = (await (connection ??= connect())).transaction(["events", "kept"], "readwrite");
      const kept = on.objectStore("kept");
      return await new Promise((resolve, reject) => {
        const whole = async (): Promise<T> =>
          work(on.objectStore("events"), (await done(kept.get("state"))) ?? nothing(), kept);
        const result = whole();
        result.catch((error) => {
          reject(error);
          // Else what it had done by then would stay.
          attempt(() => on.abort());
        });
        on.oncomplete = () => resolve(result);
        on.onabort = () => reject(on.error);
      });
    } catch (error) {
      // Safari closes connections of pages in the background: the next one is made anew.
      connection = undefined;
      throw error;
    }
  };

  return {
    name: "indexeddb",

    async open(within) {
      bounds = within;
    },

    apply: ({ add = [], remove = [], count = {}, offset }) =>
      transaction(async (events, state, kept) => {
        const overflow: string[] = [];
        const gone = ({ id, size }: Entry, counter: string): void => {
          events.delete(id);
          state.queued--;
          state.bytes -= size;
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
      transaction(async (events, state) => ({
        ...state,
        entries: limit ? await done(events.getAll(null, limit)) : [],
      })),

    async leads() {
      // The first answer says whether another tab has it; then it waits for that tab to go.
      asked ??= new Promise<void>((answered, fails) => {
        const hold = (): Promise<void> => {
          leads = true;
          answered();
          return closed;
        };
        const held = (lock: Lock | null): Promise<void> | void => {
          if (lock) return hold();
          void navigator.locks.request(name, hold);
          answered();
        };
        navigator.locks.request(name, { ifAvailable: true }, held).catch(fails);
      }).catch(() => {
        // No locks, or none that are allowed here: better sent twice than not at all.
        leads = true;
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
