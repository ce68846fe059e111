// Where events wait until they are answered. What changes together is one `Change`, which a store does as a
// whole or not at all, so that counters and queue never tell two stories.

/** An event that waits. */
export interface Entry {
  id: string;
  /** The epoch of the clock that it was made by. */
  epoch: string;
  /** By how much that clock had been set until then, in ms, since events wait in this store. */
  set: number;
  /** When it was made by that clock, in ms since 1970. */
  at: number;
  child: string;
  type: string;
  /** Bytes of `json` in UTF-8. */
  size: number;
  /** The event, verbatim. */
  json: string;
}

/** What a store does at once: first `add`, then `remove`. */
export interface Change {
  add?: Entry[];
  /** Ids of events to forget, and the counter of each: `accepted`, `rejected.CODE`, `dropped.REASON`. */
  remove?: [id: string, counter: string][];
  /** Counters to raise. */
  count?: Record<string, number>;
  /** The server's clock less an epoch's, in ms. */
  offset?: [epoch: string, ms: number] | undefined;
}

/** How much a store may hold; beyond it the oldest go, counted as `dropped.overflow`. */
export interface Bounds {
  maxEvents: number;
  maxBytes: number;
}

/** What a store holds. */
export interface State {
  queued: number;
  bytes: number;
  counts: Record<string, number>;
  /** `set` of the event that was added last. */
  set: number;
  /** The server's clock less an epoch's, in ms, by epoch. */
  offsets: Record<string, number>;
}

/** A place where events wait. Every method may reject: then nothing was changed. */
export interface Store {
  /** What it is, for `stats()`. */
  readonly name: string;
  /** Rejects with an error whose `code` is `in_use` where another process has it. */
  open(bounds: Bounds): Promise<void>;
  /** Makes a change; gives the ids that overflowed. An id to remove that is not there counts nothing. */
  apply(change: Change): Promise<string[]>;
  /** The oldest events, at most `limit`. */
  read(limit: number): Promise<State & { entries: Entry[] }>;
  /** Whether this tab is the one that sends. Without it every one is. */
  leads?(): Promise<boolean>;
  /** Lets it go. */
  close(): Promise<void>;
}

/** What a new store holds. */
export const nothing = (): State => ({ queued: 0, bytes: 0, set: 0, counts: {}, offsets: {} });

/** Raises counters; gives them back. */
export function raise(counts: Record<string, number>, by: Record<string, number>): Record<string, number> {
  for (const name in by) counts[name] = (counts[name] ?? 0) + by[name]!;
  return counts;
}

/** The offsets with a new one: where nothing waits, only that is of use to what comes. */
export function offsetsAfter({ queued, offsets }: State, offset: Change["offset"]): Record<string, number> {
  return offset ? { ...(queued && offsets), [offset[0]]: offset[1] } : offsets;
}

/** A queue in memory. */
export class Queue {
  entries = new Map<string, Entry>();
  counts: Record<string, number> = {};
  offsets: Record<string, number> = {};
  bytes = 0;
  set = 0;

  get state(): State {
    return {
      queued: this.entries.size,
      bytes: this.bytes,
      set: this.set,
      counts: { ...this.counts },
      offsets: { ...this.offsets },
    };
  }

  /** A change and what it pushes out. */
  bounded(change: Change, { maxEvents, maxBytes }: Bounds): { change: Change; overflow: string[] } {
    const { add = [], remove = [] } = change;
    const gone = new Set(remove.map(([id]) => id));
    let queued = this.entries.size;
    let bytes = this.bytes;
    for (const entry of add) (queued++, (bytes += entry.size));
    for (const id of gone) {
      const entry = this.entries.get(id) ?? add.find((entry) => entry.id === id);
      if (entry) (queued--, (bytes -= entry.size));
    }
    const overflow: string[] = [];
    for (const entries of [this.entries.values(), add]) {
      for (const entry of entries) {
        if (queued <= maxEvents && bytes <= maxBytes) break;
        if (gone.has(entry.id)) continue;
        overflow.push(entry.id);
        (queued--, (bytes -= entry.size));
      }
    }
    if (!overflow.length) return { change, overflow };
    const dropped = overflow.map((id): [string, string] => [id, "dropped.overflow"]);
    return { change: { ...change, remove: [...remove, ...dropped] }, overflow };
  }

  /** The counters and offsets after a change. */
  after(change: Change): { counts: Record<string, number>; offsets: Record<string, number> } {
    const counts = { ...this.counts };
    const added = new Set((change.add ?? []).map((entry) => entry.id));
    const gone = new Set<string>();
    for (const [id, counter] of change.remove ?? []) {
      if (gone.has(id) || !(added.has(id) || this.entries.has(id))) continue;
      gone.add(id);
      raise(counts, { [counter]: 1 });
    }
    raise(counts, change.count ?? {});
    const queued = this.entries.size + added.size - gone.size;
    return { counts, offsets: offsetsAfter({ ...this.state, queued }, change.offset) };
  }

  /** Makes a change. */
  apply(change: Change): void {
    Object.assign(this, this.after(change));
    for (const entry of change.add ?? []) {
      this.entries.set(entry.id, entry);
      this.set = entry.set;
      this.bytes += entry.size;
    }
    for (const [id] of change.remove ?? []) {
      this.bytes -= this.entries.get(id)?.size ?? 0;
      this.entries.delete(id);
    }
  }

  /** The oldest events. */
  read(limit: number): State & { entries: Entry[] } {
    const entries: Entry[] = [];
    for (const entry of this.entries.values()) {
      if (entries.length >= limit) break;
      entries.push(entry);
    }
    return { ...this.state, entries };
  }
}

/** A store whose events are in memory, and in `save` what has to outlive it. */
export abstract class QueueStore implements Store {
  abstract readonly name: string;
  protected queue = new Queue();
  #bounds: Bounds = { maxEvents: Infinity, maxBytes: Infinity };
  #turn: Promise<unknown> = Promise.resolve();

  /** Reads what is kept into `queue`. */
  protected async load(): Promise<void> {}
  /** Keeps a change that is not in `queue` yet; all of it or, where it throws, nothing. */
  protected save(_change: Change): Promise<void> | void {}
  async close(): Promise<void> {}

  async open(bounds: Bounds): Promise<void> {
    this.#bounds = bounds;
    await this.load();
  }

  apply(change: Change): Promise<string[]> {
    const turn = this.#turn.then(async () => {
      const bounded = this.queue.bounded(change, this.#bounds);
      await this.save(bounded.change);
      this.queue.apply(bounded.change);
      return bounded.overflow;
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async read(limit: number): Promise<State & { entries: Entry[] }> {
    await this.#turn;
    return this.queue.read(limit);
  }
}

class MemoryStore extends QueueStore {
  readonly name = "memory";
}

/** A store that ends with the process: for tests, and where there is none other. */
export function memoryStore(): Store {
  return new MemoryStore();
}
