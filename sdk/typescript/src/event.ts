// What every builder shares. The builders themselves are written from the declarations: events.ts.
import { RENAMED, type EventType } from "./events.js";

/**
 * What an app adds to an event for its analysts: at most 16 keys of at most 64 characters, strings of at most 256.
 * For ids and words from a list: what looks like personal data is masked by the server.
 */
export type Attributes = Record<string, string | number | boolean>;

/** What any event may have beside its fields. */
export interface EventOptions {
  /** The session that it belongs to, a UUID: `session.id`. */
  sessionId?: string;
  /** For analysts. */
  attributes?: Attributes;
}

/** An event that a builder has made. `data` has the names of the wire. */
export interface RivuletEvent extends EventOptions {
  /** Its type. */
  type: EventType;
  /** Its fields. */
  data: Record<string, unknown>;
}

/** Fields with the names that they have on the wire. */
export function wire(fields: object): Record<string, unknown> {
  const data: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    data[RENAMED[name] ?? name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase())] = value;
  }
  return data;
}

/** A builder of events of a type, which is for one action of it or for all. */
export function builder(type: EventType, action?: object) {
  return (fields: object = {}, options?: EventOptions): RivuletEvent => ({
    ...options,
    type,
    data: { ...action, ...wire(fields) },
  });
}
