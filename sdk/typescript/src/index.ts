import { open as openWith } from "./client.js";
import type { Options, Rivulet } from "./types.js";

export * from "./events.js";
export type * from "./types.js";
export type { Attributes, EventOptions, RivuletEvent } from "./event.js";
export type { Clock } from "./clock.js";
export type { Session, SessionOptions } from "./session.js";
export type { Bounds, Change, Entry, State, Store } from "./store.js";
export { startSession } from "./session.js";
export { memoryStore } from "./store.js";
export { indexedDbStore } from "./indexed-db.js";
export { localStore } from "./local-storage.js";

/** Opens the way to ingest. Events may be tracked at once. */
export const open: (options: Options) => Rivulet = openWith;
