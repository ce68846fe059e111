import { newId } from "./clock.js";
import type { Attributes } from "./event.js";
import { session, type DeviceType, type SessionAction, type SessionKind } from "./events.js";
import type { Child } from "./types.js";

/** How often an active session says so, in ms. */
const HEARTBEAT = 60_000;
/** A longer gap between two events is sleep, in ms: it counts nothing. So no event tells of more. */
const SLEEP = 120_000;

/** How a session starts. */
export interface SessionOptions {
  /** What it is for. */
  kind?: SessionKind;
  /** The kind of device that it runs on. */
  deviceType?: DeviceType;
  /** For analysts, in each of its events. */
  attributes?: Attributes;
}

/**
 * A session: it has sent `start`, sends a `heartbeat` each 60 s while it is active, `pause` when the app goes
 * to the background and `resume` when it is back. Each has the active time since the one before, by the
 * monotonic clock.
 */
export interface Session {
  /** Its id, a UUID: give it to the events that belong to it. */
  readonly id: string;
  /** Stops counting, until {@link resume}. */
  pause(): void;
  /** Goes on counting. */
  resume(): void;
  /** Ends it. Resolves once that is stored. */
  end(): Promise<void>;
}

/** Starts a session of a child. */
export function startSession(child: Child, { attributes, ...fields }: SessionOptions = {}): Session {
  const { clock, listeners } = child._app;
  const id = newId(clock.wall());
  let active = true;
  let paused = false;
  let ended = false;
  let since = clock.monotonic();

  const send = async (action: SessionAction): Promise<void> => {
    const now = clock.monotonic();
    const gap = now - since;
    since = now;
    const activeMs = active && gap <= SLEEP ? Math.round(gap) : 0;
    await child.track(
      session({ ...fields, action, activeMs }, { sessionId: id, ...(attributes && { attributes }) }),
    );
  };
  const run = (to: boolean): void => {
    if (ended || to === active) return;
    void send(to ? "resume" : "pause");
    active = to;
  };

  void send("start");
  const timer = setInterval(() => active && void send("heartbeat"), HEARTBEAT);
  (timer as { unref?: () => void }).unref?.();
  const watch = (foreground: boolean): unknown => paused || run(foreground);
  listeners.add(watch);
  watch(child._app.foreground);
  return {
    id,
    pause() {
      paused = true;
      run(false);
    },
    resume() {
      paused = false;
      run(true);
    },
    async end() {
      if (ended) return;
      ended = true;
      listeners.delete(watch);
      clearInterval(timer);
      await send("end");
    },
  };
}
