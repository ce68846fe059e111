import { QueueStore, type Change, type Entry } from "./store.js";

/** What localStorage and AsyncStorage have in common. */
export interface KeyValue {
  keys(): Promise<readonly string[]> | readonly string[];
  get(key: string): Promise<string | null> | string | null;
  set(key: string, value: string): Promise<void> | void;
  remove(key: string): Promise<void> | void;
}

/** What is not an event: written in one item, so that a removal and its counters are one. */
interface Kept {
  counts: Record<string, number>;
  offsets: Record<string, number>;
  /** Events that are removed, be their items there still or not. */
  gone: string[];
}

/** Events in a key-value store: an item each, and one for the counters. */
export class KeyValueStore extends QueueStore {
  readonly name: string;
  #items: KeyValue;
  #prefix: string;

  constructor(name: string, prefix: string, items: KeyValue) {
    super();
    this.name = name;
    this.#items = items;
    this.#prefix = prefix + "/";
  }

  protected override async load(): Promise<void> {
    const text = await this.#items.get(this.#prefix);
    const kept: Kept = text ? JSON.parse(text) : { counts: {}, offsets: {}, gone: [] };
    const add: Entry[] = [];
    for (const key of [...(await this.#items.keys())].sort()) {
      if (!key.startsWith(this.#prefix) || key === this.#prefix) continue;
      const item = kept.gone.includes(key.slice(this.#prefix.length)) ? null : await this.#items.get(key);
      if (item) add.push(JSON.parse(item));
      else await this.#items.remove(key);
    }
    this.queue.apply({ add });
    this.queue.counts = kept.counts;
    this.queue.offsets = kept.offsets;
  }

  protected override async save(change: Change): Promise<void> {
    const { add = [], remove = [] } = change;
    for (const entry of add) await this.#items.set(this.#prefix + entry.id, JSON.stringify(entry));
    if (!remove.length && !change.count && !change.offset) return;
    const gone = remove.map(([id]) => id);
    await this.#items.set(this.#prefix, JSON.stringify({ ...this.queue.after(change), gone }));
    for (const id of gone) await this.#items.remove(this.#prefix + id);
  }
}
