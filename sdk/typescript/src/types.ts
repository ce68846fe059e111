// What an app sees of the client.
import type { Clock } from "./clock.js";
import type { RivuletEvent } from "./event.js";
import type { Builders, Device } from "./events.js";
import type { Store } from "./store.js";

/**
 * Why an event was dropped: `overflow` of the queue, `expired` after 30 days, no `consent`, `too_large`, or
 * `disk`: it could not be stored.
 */
export type DropReason = "overflow" | "expired" | "consent" | "too_large" | "disk";

/**
 * Why nothing is sent: the credential is `unauthorized` or `forbidden`, the server's operator has `disabled`
 * clients, or the store is `in_use` by another process.
 */
export type StopReason = "unauthorized" | "forbidden" | "disabled" | "in_use";

/** A key or token; or a function that gives one, and is asked again when the server refuses it. */
export type Credential = string | (() => string | Promise<string>);

/** What the family consents to. What is not said stays as it was. */
export interface Consent {
  /** Any processing at all. */
  coppa?: boolean;
  /** Speech events. */
  audio?: boolean;
}

/** An event that the server refuses for good. */
export interface Rejection {
  /** The event. */
  id: string;
  /** Why, as a stable word: docs/sending-events.md lists them. */
  code: string;
  /** JSON pointer to the field. */
  pointer?: string;
  /** For people. */
  message?: string;
}

/** What became of an event that was tracked. */
export interface Receipt {
  /** The event's id, a UUID. */
  id: string;
  /** It is in the store. Without it, and without `dropped`, the store fails and it is in memory alone. */
  stored: boolean;
  /** Why it was dropped. */
  dropped?: DropReason;
}

/** What a flush left. */
export interface Status {
  /** Events that wait. */
  queued: number;
  /** How long until something is tried again, in ms; null where nothing has to wait. */
  waitMs: number | null;
  /** Why nothing is sent. */
  stopped: StopReason | null;
}

/** What became of all events since the store was made. */
export interface Stats extends Status {
  /** Bytes that wait. */
  bytes: number;
  /** Events that the server has. */
  accepted: number;
  /** Events that it refused, by code. */
  rejected: Record<string, number>;
  /** Events that were dropped here, by {@link DropReason}. */
  dropped: Record<string, number>;
  /** Where events wait: `indexeddb`, `memory`, or the name of the app's store. */
  store: string;
  /** This tab is the one that sends, or each is. */
  sends: boolean;
}

/** How a {@link Rivulet} is opened. */
export interface Options {
  /** Address of ingest, as `https://ingest.example.org`. */
  url: string;
  /** A key or token, or a function that gives one. */
  credential: Credential;
  /** The device, in each event. */
  device?: Device;
  /** Where events wait. Default: IndexedDB; where there is none, memory, for 1 000 events at most. */
  store?: Store;
  /** Events that wait at most: beyond it the oldest are dropped. At least 1. Default 10 000. */
  maxEvents?: number;
  /** Bytes that wait at most. Default 10 000 000. */
  maxBytes?: number;
  /**
   * Events in memory at most while the store fails, or where there is none; beyond it the oldest are dropped
   * as `disk`. Default 1 000.
   */
  maxUnsaved?: number;
  /** How long a request may take, in ms. Default 30 000. */
  timeoutMs?: number;
  /** How long {@link Rivulet.close} tries to send, in ms. Default 5 000. */
  closeMs?: number;
  /** With false nothing is sent but by {@link Rivulet.flush}. Default true. */
  automatic?: boolean;
  /** An event was refused for good. */
  onRejected?: (rejection: Rejection) => void;
  /** Events were dropped here. */
  onDropped?: (reason: DropReason, count: number) => void;
  /** Nothing is sent from now on: see {@link StopReason}. */
  onStopped?: (reason: StopReason) => void;
  /** The server calls a request wrong, which a newer SDK or other settings mend: its status, and its code. */
  onRefused?: (status: number, code: string | undefined) => void;
  /** A line of log for developers. It never has an event's content. */
  debug?: (line: string) => void;
  /** In place of the platform's. */
  fetch?: typeof fetch;
  /** In place of the device's clocks. */
  clock?: Clock;
  /** From 0 to below 1: how much to wait of the time that may be waited. Default `Math.random`. */
  random?: () => number;
  /** Tells whether the app is in the foreground; gives back how to stop. Default: the page's visibility. */
  lifecycle?: (listener: (foreground: boolean) => void) => () => void;
}

/**
 * What a session knows of the app.
 * @internal
 */
export interface App {
  clock: Clock;
  foreground: boolean;
  /** Told when it changes. */
  listeners: Set<(foreground: boolean) => unknown>;
}

/**
 * A child whose events are tracked: a method for each builder, that stores what it makes and never rejects.
 */
export interface Child extends Builders<Promise<Receipt>> {
  /** The UUID that it is registered by. */
  readonly id: string;
  /** @internal */
  readonly _app: App;
}

/** The way to ingest. Nothing of it throws into the app but `ready`. */
export interface Rivulet {
  /**
   * The store is open. Rejects where it cannot be; its error's `code` is `in_use` where another process has
   * it.
   */
  readonly ready: Promise<void>;
  /** A child, by the UUID that it is registered by. */
  child(childId: string): Child;
  /** Stores an event of a child. Resolves once it would survive the end of the process; never rejects. */
  track(childId: string, event: RivuletEvent): Promise<Receipt>;
  /**
   * Does all that may be done now: sends until the queue is empty or something has to wait. Never rejects.
   */
  flush(): Promise<Status>;
  /** Sends what it can within `closeMs`, and lets the store go. What was not sent stays in it. */
  close(): Promise<void>;
  /**
   * What the family consents to, as the app knows it. Without `coppa` what waits is purged and nothing more
   * is taken, without `audio` no speech. What the app refuses, only the app grants again, or the next start.
   */
  setConsent(consent: Consent): Promise<void>;
  /** A new credential: goes on where the old one was refused. */
  setCredential(credential: Credential): void;
  /** What waits and what became of the rest, since the store was made. */
  stats(): Promise<Stats>;
}
