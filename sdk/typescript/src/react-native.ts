/** For React Native: a store in AsyncStorage, and the app's being in the foreground. */
import { KeyValueStore } from "./key-value.js";
import type { Store } from "./store.js";
import type { Options } from "./types.js";

/** What is used of `@react-native-async-storage/async-storage`. */
export interface AsyncStorageLike {
  getAllKeys(): Promise<readonly string[]>;
  getItem(key: string): Promise<string | null>;
  setItem(key: string, value: string): Promise<void>;
  removeItem(key: string): Promise<void>;
}

/** What is used of React Native's `AppState`. */
export interface AppStateLike {
  addEventListener(type: "change", listener: (state: string) => void): { remove(): void };
}

/** Events in AsyncStorage, under keys with this prefix. Open one client a prefix. */
export function asyncStorage(storage: AsyncStorageLike, prefix = "rivulet"): Store {
  return new KeyValueStore("asyncstorage", prefix, {
    keys: () => storage.getAllKeys(),
    get: (key) => storage.getItem(key),
    set: (key, value) => storage.setItem(key, value),
    remove: (key) => storage.removeItem(key),
  });
}

/** For `lifecycle`: events are sent when the app goes to the background, and sessions pause there. */
export function appState(state: AppStateLike): NonNullable<Options["lifecycle"]> {
  return (listener) => {
    const subscription = state.addEventListener("change", (now) => listener(now === "active"));
    return () => subscription.remove();
  };
}
