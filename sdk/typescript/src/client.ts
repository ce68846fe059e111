import { indexedDbStore } from "./indexed-db.js";
import { epochsOf, newId, systemClock } from "./clock.js";
import { consents } from "./consents.js";
import { wire, type RivuletEvent } from "./event.js";
import { builders } from "./events.js";
import { raise, type Change, type Entry, type State, type Store } from "./store.js";
import { attempt, transport } from "./transport.js";
import type { App, Child, DropReason, Options, Receipt, Rivulet, Stats, Status, StopReason } from "./types.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** How long an event is good for, in ms. */
const GOOD_FOR = 30 * 24 * HOUR;
/** Events in a batch at most. */
const MOST = 200;
/** Bytes of JSON in a batch at most. */
const BATCH_BYTES = 500_000;
/**
 * Bytes of the request of a page that goes, with room for what is around events: browsers let 64 KiB of them
 * be.
 */
const LEAVING_BYTES = 59_900;

const NOTHING: State & { entries: Entry[] } = {
  queued: 0,
  bytes: 0,
  set: 0,
  counts: {},
  offsets: {},
  entries: [],
};

/** Opens the way to ingest. Events may be tracked at once. */
export function open(options: Options, onTracked?: (json: string) => void): Rivulet {
  const { clock = systemClock, device, random = Math.random, automatic = true } = options;
  const now = (): number => clock.monotonic();
  const epochs = epochsOf(clock);
  const consent = consents();

  /** Telemetry ends no app: what the app does with a call is the app's. */
  const call = <A extends unknown[]>(callback: ((...args: A) => void) | undefined, ...args: A): void => {
    attempt(() => callback?.(...args));
  };
  const debug = (...words: unknown[]): void => call(options.debug, words.join(" "));
  const { request, renew } = transport(options, epochs, debug);

  let store: Store | undefined;
  /** Events that the store could not take yet, and counters. Where there is no store, all that there is. */
  let unsaved = new Map<string, Entry>();
  let uncounted: Record<string, number> = {};
  /** Events that the store could not forget yet, and the counter of each. They are not sent again. */
  const gone = new Map<string, string>();
  /** The newest events that are known without asking the store, for a page that goes. */
  const near = new Map<string, Entry>();
  const inFlight = new Set<string>();
  /** Of earlier runs and other tabs, as they were last read. */
  let offsets: Record<string, number> = {};
  let leads = false;

  let running: Promise<unknown> = Promise.resolve();
  let flushing: Promise<Status> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ticking = automatic;
  let closed = false;
  let gathered = 0;

  let stopped: StopReason | null = null;
  let resumeAt = 0;
  let failures = 0;
  let waitUntil = 0;
  let serverSaysWait = false;

  let configAt = -Infinity;
  let most = MOST;
  let limit = MOST;
  let maxEventBytes = 65_536;
  let interval = 30 * SECOND;

  const stop = (reason: StopReason, forMs = HOUR): false => {
    const news = stopped !== reason;
    stopped = reason;
    resumeAt = now() + forMs;
    debug("stopped", reason);
    if (news) call(options.onStopped, reason);
    return false;
  };

  // The queue.

  const ready = (async () => {
    const { maxEvents = 10_000, maxBytes = 10_000_000 } = options;
    const wanted = options.store ?? indexedDbStore("rivulet " + options.url);
    try {
      await wanted.open({ maxEvents, maxBytes });
      store = wanted;
      epochs.after((await store.read(0)).set);
    } catch (error) {
      debug("no", wanted.name, error);
      if (!options.store) return;
      if ((error as { code?: string }).code === "in_use") stop("in_use", Infinity);
      throw error;
    }
  })();

  const dropped = (reason: DropReason, count: number): void => {
    if (!count) return;
    debug("dropped", count, reason);
    call(options.onDropped, reason, count);
  };

  /**
   * Makes a change, with what could not be made before. False where the store fails: then what is new stays in
   * memory, where the oldest give way.
   */
  const commit = async ({ add = [], remove = [], count = {}, offset }: Change): Promise<boolean> => {
    for (const [id, counter] of remove) {
      near.delete(id);
      gone.set(id, counter);
    }
    await ready.catch(() => {});
    // Taken at once, so that of two changes that are under way only one has it.
    const adds = new Map(unsaved);
    for (const entry of add) adds.set(entry.id, entry);
    unsaved = new Map();
    const counts = uncounted;
    uncounted = {};
    raise(counts, count);
    // To remove what another change removes too counts nothing.
    const removes = [...gone];
    try {
      const all = { add: [...adds.values()], remove: removes, count: counts, ...(offset && { offset }) };
      const overflow = await store!.apply(all);
      for (const [id] of removes) gone.delete(id);
      dropped("overflow", overflow.length);
      return true;
    } catch (error) {
      if (store) debug("store fails", error);
      raise(uncounted, counts);
      unsaved = new Map([...adds, ...unsaved]);
      for (const [id, counter] of gone) {
        // It never was in the store.
        if (!unsaved.delete(id)) continue;
        gone.delete(id);
        raise(uncounted, { [counter]: 1 });
      }
      let lost = 0;
      for (const id of unsaved.keys()) {
        if (unsaved.size <= (options.maxUnsaved ?? 1_000)) break;
        // What is on its way may arrive.
        if (inFlight.has(id)) continue;
        unsaved.delete(id);
        near.delete(id);
        raise(uncounted, { "dropped.disk": 1 });
        lost++;
      }
      dropped("disk", lost);
      return false;
    }
  };

  /** What waits, with what the store could not take. Where it cannot be read, what is in memory. */
  const look = async (limit: number): Promise<State & { entries: Entry[] }> => {
    const hidden = gone.size + inFlight.size;
    const stored =
      (await store?.read(limit && limit + hidden).catch((error) => debug("store fails", error))) || NOTHING;
    offsets = stored.offsets;
    const counts = { ...stored.counts };
    raise(counts, uncounted);
    return {
      ...stored,
      queued: stored.queued + unsaved.size - gone.size,
      counts,
      entries: [...stored.entries, ...unsaved.values()].filter(
        ({ id }) => !inFlight.has(id) && !gone.has(id),
      ),
    };
  };

  const remember = (entries: Entry[]): void => {
    for (const entry of entries) near.set(entry.id, entry);
    for (const id of near.keys()) if (near.size > 2 * MOST) near.delete(id);
  };

  const drop = async (entries: Entry[], reason: DropReason): Promise<void> => {
    if (entries.length) await commit({ remove: entries.map(({ id }) => [id, "dropped." + reason]) });
    dropped(reason, entries.length);
  };

  const isWanting = ({ child, type }: Entry): boolean => consent.blocks(child, type);

  /** Drops what waits and has no consent. */
  const purge = async (): Promise<void> => {
    await ready.catch(() => {});
    const { entries } = await look(1e9);
    await drop(entries.filter(isWanting), "consent");
  };

  const track = async (childId: string, event: RivuletEvent): Promise<Receipt> => {
    const id = newId(epochs.corrected());
    const at = Math.round(clock.wall());
    const refuse = async (reason: DropReason): Promise<Receipt> => {
      await commit({ count: { ["dropped." + reason]: 1 } });
      dropped(reason, 1);
      return { id, stored: false, dropped: reason };
    };
    const { type, sessionId, attributes, data } = event;
    if (consent.blocks(childId, type)) return refuse("consent");
    let size = 0;
    const json = attempt(() => {
      const text = JSON.stringify({
        id,
        type,
        child_id: childId,
        occurred_at: new Date(at).toISOString(),
        session_id: sessionId,
        device: device && wire(device),
        attributes,
        data,
      });
      // Half of a surrogate pair is escaped already.
      size = encodeURIComponent(text).replace(/%../g, "x").length;
      return text;
    });
    if (!json) return refuse("disk");
    if (size > maxEventBytes) return refuse("too_large");
    onTracked?.(json);
    const epoch = epochs.now();
    const entry: Entry = { id, epoch: epoch.id, set: 0, at, child: childId, type, size, json };
    remember([entry]);
    await ready.catch(() => {});
    entry.set = epochs.set(epoch);
    const stored = await commit({ add: [entry] });
    if (++gathered >= most && automatic) void flush();
    return stored || unsaved.has(id) ? { id, stored } : { id, stored, dropped: "disk" };
  };

  // Sending.

  /** A failure: waits as long as the server says, else longer each time. */
  const wait = (retryAfter: number | undefined, why: string | number): false => {
    failures++;
    serverSaysWait = retryAfter !== undefined;
    const ms = retryAfter ?? random() * Math.min(300 * SECOND, SECOND * 2 ** failures);
    waitUntil = now() + ms;
    debug(why, "waits", ms);
    return false;
  };

  const config = async (): Promise<void> => {
    const { status, body, retryAfter = 0 } = (await request("/v1/config")) ?? {};
    const isConfig = status === 200 && typeof body?.enabled === "boolean";
    // Without an answer it goes on as before, and asks again before long.
    const again = isConfig && body.enabled ? HOUR : isConfig || stopped ? 10 * MINUTE : MINUTE;
    configAt = now() + Math.max(again, retryAfter);
    if (status === 401) stop("unauthorized");
    if (status === 403) stop("forbidden");
    if (!isConfig) return debug("no config", status);
    if (body.max_events >= 1) limit = most = Math.min(MOST, body.max_events);
    if (body.max_event_bytes >= 1) maxEventBytes = body.max_event_bytes;
    if (body.flush_interval_s >= 1) interval = Math.min(HOUR, body.flush_interval_s * SECOND);
    if (body.consents) {
      consent.server(body.consents);
      await purge();
    }
    if (!body.enabled) stop("disabled", 0);
    else if (stopped === "disabled") stopped = null;
  };

  /** The oldest batch, after what has become too old. */
  const next = async (): Promise<Entry[]> => {
    for (;;) {
      const { entries } = await look(limit);
      const old = entries.filter(
        (entry) => epochs.reads(entry.set, offsets[entry.epoch]) - entry.at > GOOD_FOR,
      );
      // What was on its way into the store when the rest was purged.
      const wanting = entries.filter(isWanting);
      remember(entries);
      if (!old.length && !wanting.length) return pick(entries, limit, BATCH_BYTES);
      await drop(wanting, "consent");
      await drop(
        old.filter((entry) => !isWanting(entry)),
        "expired",
      );
    }
  };

  /** Sends a batch; whether to go on with the next. */
  const send = async (batch: Entry[], leaving?: boolean): Promise<boolean> => {
    const [{ set, epoch: madeIn }] = batch as [Entry];
    const newest = Math.max(...batch.map(({ at }) => at));
    const epoch = epochs.now();
    // What an earlier clock would read is best told when the server knows this one: it is asked with no event.
    const earlier = offsets[madeIn] !== undefined || set !== epochs.set(epoch);
    if (!leaving && earlier && epoch.offset === undefined && !epoch.asked) {
      epoch.asked = true;
      batch = [];
    }
    for (const { id } of batch) inFlight.add(id);
    try {
      const { counts } = leaving ? NOTHING : await look(0);
      // What was dropped and the server was not told.
      const news = named(counts, "dropped.");
      for (const reason in news) if (!(news[reason]! -= counts["told." + reason] ?? 0)) delete news[reason];
      const body = (): string => {
        // Nothing is sent before it happened: then the clock was set back, and nobody saw it.
        const sentAt = new Date(
          Math.max(newest, Math.round(epochs.reads(set, offsets[madeIn]))),
        ).toISOString();
        const lost = Object.keys(news).length ? `"dropped":${JSON.stringify(news)},` : "";
        return `{"sent_at":"${sentAt}",${lost}"events":[${batch.map((entry) => entry.json).join()}]}`;
      };
      const began = now();
      const { status, body: said, retryAfter } = (await request("/v1/events", body, leaving)) ?? {};
      const took = now() - began;
      if (status === 200) {
        const results = resultsOf(said, batch);
        if (!results) return wait(undefined, "no contract");
        const change: Change = { count: {}, remove: [] };
        for (const reason in news) change.count!["told." + reason] = news[reason]!;
        if (took < 10 * SECOND && epochs.now() === epoch) {
          epoch.offset = Date.parse(said.received_at) - (clock.wall() - took / 2);
          change.offset = [epoch.id, epoch.offset];
        }
        return await settle(batch, results, change, retryAfter);
      }
      if (status === 401) return leaving ? false : stop("unauthorized");
      if (status === 403) return stop("forbidden");
      if (status === 413) {
        limit = Math.max(1, batch.length >> 1);
        if (batch.length < 2) await drop(batch, "too_large");
        return true;
      }
      if (status! >= 400 && status! < 500 && status !== 408 && status !== 429) {
        call(options.onRefused, status!, said?.code);
      }
      return wait(retryAfter, status ?? "no answer");
    } finally {
      for (const { id } of batch) inFlight.delete(id);
    }
  };

  /** Does what the results of a batch say; whether to go on with the next. */
  const settle = async (
    batch: Entry[],
    results: any[],
    change: Change,
    retryAfter?: number,
  ): Promise<boolean> => {
    const remove = change.remove!;
    let accepted = 0;
    batch.forEach(({ id, child, type }, at) => {
      const { outcome, code } = results[at];
      if (outcome === "accepted") accepted++;
      if (outcome !== "retry") remove.push([id, outcome === "accepted" ? outcome : "rejected." + code]);
      if (code === "consent_required") consent.refuse(child, type);
    });
    await commit(change);
    debug("sent", batch.length, "accepted", accepted);
    let wanting = false;
    for (const { id, outcome, code, pointer, message } of results) {
      if (outcome === "rejected") call(options.onRejected, { id, code, pointer, message });
      if (code === "consent_required") wanting = true;
    }
    if (wanting) await purge();
    if (accepted) failures = 0;
    if (remove.length < batch.length) return wait(retryAfter, "retry");
    limit = Math.min(most, limit * 2);
    return true;
  };

  const statusOf = ({ queued }: State): Status => {
    const until = !stopped ? (queued ? waitUntil : 0) : stopped === "disabled" ? configAt : resumeAt;
    const ms = until - now();
    return { queued, waitMs: ms > 0 && ms < Infinity ? Math.ceil(ms) : null, stopped };
  };

  const run = async (): Promise<Status> => {
    try {
      await ready;
      gathered = 0;
      if (stopped && stopped !== "disabled" && now() >= resumeAt) stopped = null;
      if ((!stopped || stopped === "disabled") && now() >= configAt) await config();
      for (;;) {
        // Asked though there be nothing to send: a page that goes has no time to ask.
        leads = (await store?.leads?.()) ?? true;
        if (!leads) break;
        const batch = await next();
        if (!batch.length || closed || stopped || now() < waitUntil || !(await send(batch))) break;
      }
    } catch (error) {
      debug("flush fails", error);
    }
    return statusOf(await look(0));
  };

  /** A run that begins after now: one that is under way may have looked at the queue already. */
  const flush = (): Promise<Status> =>
    (flushing ??= running.then(() => {
      flushing = undefined;
      const turn = run();
      running = turn;
      return turn;
    }));

  /** One request while the page goes: what is under way when it is gone arrives all the same. */
  const leave = (): void => {
    if (!leads || stopped || closed || now() < waitUntil) return;
    // The newest first: those may not be stored yet.
    const entries = [...near.values()]
      .filter((entry) => !inFlight.has(entry.id) && !isWanting(entry))
      .reverse();
    const batch = pick(entries, most, LEAVING_BYTES);
    if (batch.length) send(batch, true).catch(() => {});
  };

  const tick = async (): Promise<void> => {
    const { waitMs } = await flush();
    if (!ticking) return;
    timer = setTimeout(tick, Math.min(waitMs ?? interval, HOUR));
    // A program of Node may end; it calls close() if it wants to wait.
    (timer as { unref?: () => void }).unref?.();
  };

  // The page, or what the app says of itself.

  const over = new AbortController();
  const page = typeof document === "undefined" ? undefined : document;
  const app: App = { clock, foreground: page?.visibilityState !== "hidden", listeners: new Set() };
  const changed = (to: boolean): void => {
    if (to !== app.foreground) {
      app.foreground = to;
      // What a session has to say of it goes with the rest.
      app.listeners.forEach((listener) => listener(to));
    }
    if (!automatic) return;
    if (to || !page) void flush();
    else leave();
  };
  const { signal } = over;
  if (options.lifecycle) signal.addEventListener("abort", options.lifecycle(changed));
  else if (page) {
    page.addEventListener("visibilitychange", () => changed(page.visibilityState !== "hidden"), { signal });
    addEventListener("pagehide", () => changed(false), { signal });
  }
  if (page) {
    const online = (): void => {
      if (!serverSaysWait) waitUntil = 0;
      if (automatic) void flush();
    };
    addEventListener("online", online, { signal });
  }

  ready.then(
    () => (ticking ? tick() : undefined),
    () => {},
  );

  return {
    ready,
    track,
    flush,
    child(id) {
      const child = { id, track: (event) => track(id, event), _app: app } as Child;
      for (const [name, build] of Object.entries<(...given: any[]) => RivuletEvent>(builders)) {
        (child as any)[name] = (...given: unknown[]) => child.track(build(...given));
      }
      return child;
    },
    async close() {
      ticking = false;
      clearTimeout(timer);
      over.abort();
      const limit = new Promise((resolve) => (timer = setTimeout(resolve, options.closeMs ?? 5 * SECOND)));
      if (automatic) await Promise.race([flush(), limit]);
      clearTimeout(timer);
      closed = true;
      // What the store could not take before.
      if (unsaved.size + gone.size) await commit({});
      await store?.close().catch(() => {});
      store = undefined;
    },
    async setConsent(says) {
      consent.app(says);
      await purge();
    },
    setCredential(credential) {
      renew(credential);
      if (stopped === "unauthorized" || stopped === "forbidden") stopped = null;
      if (automatic) void flush();
    },
    async stats(): Promise<Stats> {
      const state = await look(0);
      return {
        ...statusOf(state),
        bytes: state.bytes,
        accepted: state.counts["accepted"] ?? 0,
        rejected: named(state.counts, "rejected."),
        dropped: named(state.counts, "dropped."),
        store: store?.name ?? "memory",
        sends: leads,
      };
    },
  };
}

/** The events of the first one's epoch, within the bounds. */
function pick(entries: Entry[], most: number, maxBytes: number): Entry[] {
  const batch: Entry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (entry.epoch !== entries[0]!.epoch) continue;
    bytes += entry.size + 1;
    if (batch.length >= most || bytes > maxBytes) break;
    batch.push(entry);
  }
  return batch;
}

/** The counters of a kind, by what follows it. */
function named(counts: Record<string, number>, kind: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name in counts) if (name.startsWith(kind)) found[name.slice(kind.length)] = counts[name]!;
  return found;
}

/** The results of a batch, if that is what the answer is: a captive portal says 200 too. */
function resultsOf(body: any, batch: Entry[]): any[] | undefined {
  const fits = (result: any, at: number): boolean =>
    result.index === at &&
    result.id === batch[at]!.id &&
    (result.outcome === "accepted" ||
      result.outcome === "retry" ||
      (result.outcome === "rejected" && !!result.code));
  const results = body?.results;
  return attempt(
    () => Date.parse(body.received_at) && results.length === batch.length && results.every(fits) && results,
  );
}
