/** For an app's tests: a client without a server. */
import { open } from "./client.js";
import type { RivuletEvent } from "./event.js";
import { memoryStore } from "./store.js";
import type { Options, Rivulet } from "./types.js";

/** An event as it would be sent. */
export interface TrackedEvent {
  id: string;
  type: string;
  child_id: string;
  occurred_at: string;
  session_id?: string;
  device?: Record<string, unknown>;
  attributes?: Record<string, unknown>;
  data: Record<string, unknown>;
}

/** A client that keeps what the app tracks. `flush()` takes all of it as accepted. */
export interface FakeRivulet extends Rivulet {
  /** What was tracked, in order. */
  readonly events: TrackedEvent[];
  /** Forgets what was tracked. */
  clear(): void;
  /**
   * The first event with all the fields of what a builder makes, and of this child where one is given. Throws with the
   * events of that type and what each lacks, if there is none.
   */
  assertTracked(expected: RivuletEvent, childId?: string): TrackedEvent;
  /** Throws if there is such an event. */
  assertNotTracked(expected: RivuletEvent, childId?: string): void;
}

/** Opens a client without a server. Nothing is sent by itself. */
export function fake(options: Partial<Options> = {}): FakeRivulet {
  const events: TrackedEvent[] = [];
  const rivulet = open(
    {
      url: "http://rivulet.invalid",
      credential: "fake",
      store: memoryStore(),
      automatic: false,
      fetch: acceptsAll as typeof fetch,
      ...options,
    },
    (json) => events.push(JSON.parse(json)),
  );
  const find = (expected: RivuletEvent, childId?: string): TrackedEvent | undefined =>
    events.find((event) => !lacks(event, expected, childId).length);
  return {
    ...rivulet,
    events,
    clear: () => void events.splice(0),
    assertTracked(expected, childId) {
      const found = find(expected, childId);
      if (found) return found;
      const same = events.filter(({ type }) => type === expected.type);
      const lines = same.map((event) => `  ${JSON.stringify(event.data)}: ${lacks(event, expected, childId).join(", ")}`);
      const seen = lines.length ? `, only:\n${lines.join("\n")}` : ` among ${events.length} events`;
      throw new Error(`no ${expected.type} with ${JSON.stringify(wanted(expected, childId))}${seen}`);
    },
    assertNotTracked(expected, childId) {
      const found = find(expected, childId);
      if (found) throw new Error(`there is such an event: ${JSON.stringify(found)}`);
    },
  };
}

/** What an event has to have, by its path. */
function wanted({ type, data, sessionId, attributes }: RivuletEvent, childId?: string): Record<string, unknown> {
  const fields: Record<string, unknown> = { type, child_id: childId, session_id: sessionId };
  for (const [name, value] of Object.entries(data)) fields[`data.${name}`] = value;
  for (const [name, value] of Object.entries(attributes ?? {})) fields[`attributes.${name}`] = value;
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** The fields that an event lacks. */
function lacks(event: TrackedEvent, expected: RivuletEvent, childId?: string): string[] {
  const at = (path: string): unknown => path.split(/\.(.*)/, 2).reduce((of: any, name) => of?.[name], event);
  const differs = ([path, value]: [string, unknown]): string[] =>
    at(path) === value ? [] : [`${path} is ${JSON.stringify(at(path))}, not ${JSON.stringify(value)}`];
  return Object.entries(wanted(expected, childId)).flatMap(differs);
}

async function acceptsAll(_url: string, { body, headers }: RequestInit): Promise<Response> {
  const config = { enabled: true, max_events: 1_000, max_event_bytes: 65_536, flush_interval_s: 30, consents: null };
  if (!body) return Response.json(config);
  const zipped = "Content-Encoding" in (headers as object);
  const stream = new Response(body).body!;
  const text = await new Response(zipped ? stream.pipeThrough(new DecompressionStream("gzip")) : stream).text();
  const results = JSON.parse(text).events.map(({ id }: { id: string }, index: number) => ({ index, id, outcome: "accepted" }));
  return Response.json({ received_at: new Date().toISOString(), results });
}
