import { indexedDbStore } from "./indexed-db.js";
import { epochsOf, newId, systemClock, type Epoch } from "./clock.js";
import { consents } from "./consents.js";
import { wire, type RivuletEvent } from "./event.js";
import { builders } from "./events.js";
import { nothing, raise, type Change, type Entry, type State, type Store } from "./store.js";
import { attempt, transport } from "./transport.js";
import type {
  App,
  Child,
  DropReason,
  Options,
  Receipt,
  Rejection,
  Rivulet,
  Stats,
  Status,
  StopReason,
} from "./types.js";

// In ms. Enums, as those are written into what uses them.
const enum Ms {
  Second = 1_000,
  Minute = 60_000,
  Hour = 3_600_000,
  /** How long an event is good for. */
  GoodFor = 30 * 24 * Hour,
}

const enum Batch {
  /** Events at most. */
  Events = 200,
  /** Bytes of JSON at most. */
  Bytes = 500_000,
  /** Bytes for a page that goes, with room for what is around events: browsers let 64 KiB of them be. */
  LeavingBytes = 59_900,
}

/** What a status says of the credential. */
const REFUSED: Record<number, StopReason> = { 401: "unauthorized", 403: "forbidden" };

/** Opens the way to ingest. Events may be tracked at once. */
export function open(options: Options, onTracked?: (json: string) => void): Rivulet {
  const {
    clock = systemClock,
    device,
    maxEvents = 10_000,
    maxBytes = 10_000_000,
    maxUnsaved = 1_000,
    closeMs = 5_000,
    automatic = true,
    random = Math.random,
  } = options;
  const { wall, monotonic: now } = clock;
  const [epochNow, after, setUntil, reads, corrected] = epochsOf(clock);
  const [blocks, refuse, serverConsents, appConsents] = consents();

  /** Telemetry ends no app: what the app does with a call is the app's. */
  const call = <A extends unknown[]>(callback: ((...args: A) => void) | undefined, ...args: A): void => {
    attempt(() => callback?.(...args));
  };
  const debug = (...words: unknown[]): void => call(options.debug, words.join(" "));
  const [request, renew] = transport(options, corrected, debug);

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
  /** The epoch for which the server was asked what time it is. */
  let asked: Epoch | undefined;
  let leads = false;

  let flushing: Promise<Status> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  let gathered = 0;

  let stopped: StopReason | null = null;
  let resumeAt = 0;
  let failures = 0;
  let waitUntil = 0;
  let serverSaysWait = false;

  let configAt = -Infinity;
  let most = Batch.Events;
  let limit = Batch.Events;
  let maxEventBytes = 65_536;
  let interval = 30 * Ms.Second;

  const stop = (reason: StopReason, until = now() + Ms.Hour): false => {
    resumeAt = until;
    if (stopped !== reason) call(options.onStopped, (stopped = reason));
    return false;
  };

  // The queue.

  const ready = (async () => {
    const wanted = options.store ?? indexedDbStore("rivulet " + options.url);
    try {
      await wanted.open({ maxEvents, maxBytes });
      after((await wanted.read(0)).set);
      store = wanted;
    } catch (error) {
      debug("no", wanted.name, error);
      if (!options.store) return;
      if ((error as { code?: string }).code === "in_use") stop("in_use", 0);
      throw error;
    }
  })();

  const opened = ready.catch(() => {});
  let running: Promise<unknown> = opened;

  const dropped = (reason: DropReason, count: number): void => {
    if (count) call(options.onDropped, reason, count);
  };

  /**
   * Makes a change, with what could not be made before. False where the store fails: then what is new stays
   * in memory, where the oldest give way.
   */
  const commit = async ({ add = [], remove = [], count = {}, offset }: Change): Promise<boolean> => {
    for (const [id, counter] of remove) {
      near.delete(id);
      gone.set(id, counter);
    }
    await opened;
    // Taken at once, so that of two changes that are under way only one has it.
    const adds = unsaved;
    const counts = raise(uncounted, count);
    unsaved = new Map();
    uncounted = {};
    for (const entry of add) adds.set(entry.id, entry);
    // What another change removes too counts nothing here.
    const all = { add: [...adds.values()], remove: [...gone], count: counts, offset };
    try {
      const overflow = await store!.apply(all);
      for (const [id] of all.remove) gone.delete(id);
      dropped("overflow", overflow.length);
      return true;
    } catch (error) {
      if (store) debug(error);
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
        // What is on its way may arrive.
        if (unsaved.size <= maxUnsaved || inFlight.has(id)) continue;
        unsaved.delete(id);
        near.delete(id);
        raise(uncounted, { "dropped.disk": 1 });
        lost++;
      }
      dropped("disk", lost);
      return false;
    }
  };

  const isFree = ({ id }: Entry): boolean => !inFlight.has(id) && !gone.has(id);

  /** What waits, with what the store could not take. Where it cannot be read, what is in memory. */
  const look = async (limit: number): Promise<State & { entries: Entry[] }> => {
    await opened;
    const stored = (await store?.read(limit && limit + gone.size + inFlight.size).catch(debug)) || {
      ...nothing(),
      entries: [],
    };
    offsets = stored.offsets;
    return {
      ...stored,
      queued: stored.queued + unsaved.size - gone.size,
      counts: raise({ ...stored.counts }, uncounted),
      entries: [...stored.entries, ...unsaved.values()].filter(isFree),
    };
  };

  const remember = (entries: Entry[]): void => {
    for (const entry of entries) near.set(entry.id, entry);
    for (const id of near.keys()) if (near.size > 2 * Batch.Events) near.delete(id);
  };

  /** Drops events; how many. */
  const drop = async (entries: Entry[], reason: DropReason): Promise<number> => {
    if (entries.length) await commit({ remove: entries.map(({ id }) => [id, "dropped." + reason]) });
    dropped(reason, entries.length);
    return entries.length;
  };

  const isWanting = ({ child, type }: Entry): boolean => blocks(child, type);
  const isOld = ({ set, epoch, at }: Entry): boolean => reads(set, offsets[epoch]) - at > Ms.GoodFor;

  /** The oldest batch, after what of so many events has become too old, or has no consent. */
  const next = async (among: number): Promise<Entry[]> => {
    const { entries } = await look(among);
    remember(entries);
    const dropped =
      (await drop(entries.filter(isWanting), "consent")) || (await drop(entries.filter(isOld), "expired"));
    return dropped ? next(among) : pick(entries, limit, Batch.Bytes);
  };

  /** Drops what waits and has no consent. */
  const purge = (): Promise<unknown> => next(1e9);

  const track = async (childId: string, event: RivuletEvent): Promise<Receipt> => {
    const id = newId(corrected());
    const at = wall();
    const { type, sessionId, attributes, data } = event;
    const json = attempt(() =>
      JSON.stringify({
        id,
        type,
        child_id: childId,
        occurred_at: new Date(at),
        session_id: sessionId,
        device: device && wire(device),
        attributes,
        data,
      }),
    );
    // In UTF-8. Half of a surrogate pair is escaped already.
    const size = encodeURIComponent(json!).replace(/%../g, "x").length;
    const reason = blocks(childId, type)
      ? "consent"
      : !json
        ? "disk"
        : size > maxEventBytes
          ? "too_large"
          : undefined;
    if (!json || reason) {
      await commit({ count: { ["dropped." + reason]: 1 } });
      dropped(reason!, 1);
      return { id, stored: false, dropped: reason! };
    }
    onTracked?.(json);
    const epoch = epochNow();
    const entry: Entry = { id, epoch: epoch.id, set: 0, at, child: childId, type, size, json };
    remember([entry]);
    await opened;
    entry.set = setUntil(epoch);
    const stored = await commit({ add: [entry] });
    if (++gathered >= most) goOn();
    return stored || unsaved.has(id) ? { id, stored } : { id, stored, dropped: "disk" };
  };

  // Sending.

  /** A failure: waits as long as the server says, else longer each time. */
  const wait = (retryAfter?: number): false => {
    failures++;
    serverSaysWait = !!retryAfter;
    const ms = retryAfter ?? random() * Math.min(300 * Ms.Second, Ms.Second * 2 ** failures);
    waitUntil = now() + ms;
    debug("waits", ms);
    return false;
  };

  const config = async (): Promise<void> => {
    const { status, body, retryAfter = 0 } = (await request("/v1/config")) ?? {};
    const enabled = status === 200 ? body?.enabled : undefined;
    // Without an answer it goes on as before, and asks again before long; sooner where that is to send.
    const again = enabled ? Ms.Hour : (enabled ?? !stopped) ? Ms.Minute : 10 * Ms.Minute;
    resumeAt = configAt = now() + Math.max(again, retryAfter);
    if (REFUSED[status!]) stop(REFUSED[status!]!);
    if (typeof enabled !== "boolean") return;
    limit = most = Math.min(Batch.Events, body.max_events) || most;
    maxEventBytes = body.max_event_bytes || maxEventBytes;
    interval = Math.min(Ms.Hour, body.flush_interval_s * Ms.Second) || interval;
    if (body.consents) {
      serverConsents(body.consents);
      await purge();
    }
    if (!enabled) stop("disabled", configAt);
    else if (stopped === "disabled") stopped = null;
  };

  /** Sends a batch; whether to go on with the next. */
  const send = async (batch: Entry[], leaving?: boolean): Promise<boolean> => {
    const [{ set, epoch: madeIn }] = batch as [Entry];
    const epoch = epochNow();
    // What an earlier clock would read is best told when the server knows this one: it is asked with no
    // event.
    const earlier = offsets[madeIn] !== undefined || set !== setUntil(epoch);
    if (!leaving && earlier && epoch.offset === undefined && asked !== epoch) {
      asked = epoch;
      batch = [];
    }
    for (const { id } of batch) inFlight.add(id);
    try {
      // What was dropped and the server was not told.
      const counts = leaving ? {} : (await look(0)).counts;
      const lost = named(counts, "dropped.");
      const told: Record<string, number> = {};
      let news: Record<string, number> | undefined;
      for (const reason in lost) {
        const count = lost[reason]! - (counts["told." + reason] ?? 0);
        if (count) (news ??= {})[reason] = told["told." + reason] = count;
      }
      const body = (): string => {
        // Nothing is sent before it happened: then the clock was set back, and nobody saw it.
        const sentAt = Math.max(...batch.map(({ at }) => at), reads(set, offsets[madeIn]));
        const head = JSON.stringify({ sent_at: new Date(sentAt), dropped: news });
        // Events as they were made, to the letter.
        return `${head.slice(0, -1)},"events":[${batch.map(({ json }) => json)}]}`;
      };
      const began = now();
      const { status, body: said, retryAfter } = (await request("/v1/events", body, leaving)) ?? {};
      const took = now() - began;
      const received = Date.parse(said?.received_at);
      // A captive portal says 200 too. What has no result of its own is sent again.
      if (status === 200 && received && said.results?.length === batch.length) {
        const remove: [string, string][] = [];
        const refused: Rejection[] = [];
        let offset: Change["offset"];
        let wanting = false;
        if (took < 10 * Ms.Second && epochNow() === epoch) {
          epoch.offset = received - wall() + took / 2;
          offset = [epoch.id, epoch.offset];
        }
        batch.forEach(({ id, child, type }, at) => {
          const { index: _, outcome, ...rejection } = said.results[at] ?? {};
          const { code } = rejection;
          if (rejection.id !== id) return;
          if (outcome === "accepted") {
            failures = 0;
            remove.push([id, outcome]);
          }
          if (outcome === "rejected") {
            refused.push(rejection);
            remove.push([id, "rejected." + code]);
            if (code === "consent_required") {
              refuse(child, type);
              wanting = true;
            }
          }
        });
        await commit({ remove, count: told, offset });
        for (const rejection of refused) call(options.onRejected, rejection);
        if (wanting) await purge();
        if (remove.length < batch.length) return wait(retryAfter);
        limit = Math.min(most, limit * 2);
        return true;
      }
      // A page that goes could not ask for another token.
      if (REFUSED[status!]) return !leaving && stop(REFUSED[status!]!);
      if (status === 413) {
        limit = batch.length >> 1 || 1;
        if (batch.length < 2) await drop(batch, "too_large");
        return true;
      }
      // Any other 4xx but those that say to wait.
      if (/^4(?!08|29)/.test("" + status)) call(options.onRefused, status!, said?.code);
      return wait(retryAfter);
    } finally {
      for (const { id } of batch) inFlight.delete(id);
    }
  };

  const mayNot = (): unknown => closed || stopped || now() < waitUntil;

  const statusOf = ({ queued }: State): Status => {
    const ms = (stopped ? resumeAt : queued ? waitUntil : 0) - now();
    return { queued, waitMs: ms > 0 ? Math.ceil(ms) : null, stopped };
  };

  const run = async (): Promise<Status> => {
    try {
      await ready;
      gathered = 0;
      if (stopped !== "disabled" && now() >= resumeAt) stopped = null;
      if ((!stopped || stopped === "disabled") && now() >= configAt) await config();
      for (;;) {
        // Asked though there be nothing to send: a page that goes has no time to ask.
        leads = (await store?.leads?.()) ?? true;
        if (!leads) break;
        const batch = await next(limit);
        if (!batch.length || mayNot() || !(await send(batch))) break;
      }
    } catch (error) {
      debug(error);
    }
    return statusOf(await look(0));
  };

  /** A run that begins after now: one that is under way may have looked at the queue already. */
  const flush = (): Promise<Status> =>
    (flushing ??= running.then(() => {
      flushing = undefined;
      return (running = run());
    }));

  const goOn = (): void => {
    if (automatic) void flush();
  };

  /** One request while the page goes: what is under way when it is gone arrives all the same. */
  const leave = (): void => {
    if (!leads || mayNot()) return;
    // The newest first: those may not be stored yet.
    const entries = [...near.values()]
      .filter((entry) => isFree(entry) && !isWanting(entry))
      .reverse();
    const batch = pick(entries, most, Batch.LeavingBytes);
    if (batch.length) void send(batch, true);
  };

  const tick = async (): Promise<void> => {
    const { waitMs } = await flush();
    if (over.signal.aborted) return;
    timer = setTimeout(tick, waitMs ?? interval);
    // A program of Node may end; it calls close() if it wants to wait.
    (timer as { unref?: () => void }).unref?.();
  };

  // The page, or what the app says of itself.

  const over = new AbortController();
  const page = globalThis.document as Document | undefined;
  const isVisible = (): boolean => page?.visibilityState !== "hidden";
  const app: App = { clock, foreground: isVisible(), listeners: new Set() };
  const changed = (to: boolean): void => {
    app.foreground = to;
    // What a session has to say of it goes with the rest.
    app.listeners.forEach((listener) => listener(to));
    if (to || !page) goOn();
    else if (automatic) leave();
  };
  const on = (type: string, listener: () => void): void => {
    // Until it aborts: its `signal` is what the options are asked for.
    if (page) addEventListener(type, listener, over);
  };
  on("online", () => {
    if (!serverSaysWait) waitUntil = 0;
    goOn();
  });
  if (options.lifecycle) over.signal.addEventListener("abort", options.lifecycle(changed));
  else {
    on("visibilitychange", () => changed(isVisible()));
    on("pagehide", () => changed(false));
  }

  if (automatic) ready.then(tick, () => {});

  return {
    ready,
    track,
    flush,
    child(id) {
      const child = { id, track: (event) => track(id, event), _app: app } as Child;
      for (const name in builders) {
        (child as any)[name] = (...given: unknown[]) => child.track((builders as any)[name](...given));
      }
      return child;
    },
    async close() {
      clearTimeout(timer);
      over.abort();
      const limit = new Promise((resolve) => (timer = setTimeout(resolve, closeMs)));
      if (automatic) await Promise.race([flush(), limit]);
      clearTimeout(timer);
      closed = true;
      // What the store could not take before.
      if (unsaved.size + gone.size) await commit({});
      await store?.close().catch(() => {});
      store = undefined;
    },
    async setConsent(says) {
      appConsents(says);
      await purge();
    },
    setCredential(credential) {
      renew(credential);
      resumeAt = 0;
      goOn();
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
  let bytes = 0;
  return entries
    .filter(({ epoch, size }) => epoch === entries[0]!.epoch && (bytes += size + 1) <= maxBytes)
    .slice(0, most);
}

/** The counters of a kind, by what follows it. */
function named(counts: Record<string, number>, kind: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name in counts) if (name.startsWith(kind)) found[name.slice(kind.length)] = counts[name]!;
  return found;
}
