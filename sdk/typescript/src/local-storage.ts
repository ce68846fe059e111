import { KeyValueStore } from "./key-value.js";
import type { Store } from "./store.js";

/** localStorage, which has no transactions between tabs: one tab has it, by a lock. */
class LocalStore extends KeyValueStore {
  #lock: string;
  #release: (() => void) | undefined;

  constructor(prefix: string) {
    super("localstorage", prefix, {
      keys: () => Object.keys(localStorage),
      get: (key) => localStorage.getItem(key),
      set: (key, value) => localStorage.setItem(key, value),
      remove: (key) => localStorage.removeItem(key),
    });
    this.#lock = prefix;
  }

  protected override async load(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const held = (lock: Lock | null): Promise<void> | void => {
        if (!lock) return reject(new Error("another tab has it"));
        resolve();
        return new Promise((release) => (this.#release = release));
      };
      navigator.locks.request(this.#lock, { ifAvailable: true }, held).catch(reject);
    });
    await super.load();
  }

  override async close(): Promise<void> {
    this.#release?.();
  }
}

/** Events in localStorage, under keys with this prefix, for one tab: in another one opening it fails. */
export function localStore(prefix: string): Store {
  return new LocalStore(prefix);
}
