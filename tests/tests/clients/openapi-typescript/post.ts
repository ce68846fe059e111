// Posts an event of each type with the client that openapi-typescript makes.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./rivulet.js";

const { INGEST_URL: baseUrl, INGEST_KEY: key, CHILD: child_id } = process.env as Record<string, string>;

type Event = components["schemas"]["Event"];

const about = () => ({ id: randomUUID(), child_id: child_id!, occurred_at: new Date().toISOString() });
const events: Event[] = [
  {
    ...about(),
    type: "interaction",
    device: { platform: "ios", app_version: "4.12.1" },
    attributes: { experiment: "b", price: 0.5, trial: true },
    data: { action: "answer", is_correct: true, confidence: 0.25 },
  },
  { ...about(), type: "message", data: { conversation_id: randomUUID(), sequence: 1, role: "user" } },
  { ...about(), type: "speech", data: { audio_session_id: randomUUID(), window_ms: 30_000, snr_db: 12.5 } },
  { ...about(), type: "session", session_id: randomUUID(), data: { action: "start", kind: "learning" } },
];

// What is no event does not pass the type check.
export const wrong: Event[] = [
  // @ts-expect-error: no such type
  { ...about(), type: "sound", data: { action: "start" } },
  // @ts-expect-error: the data of another type
  { ...about(), type: "message", data: { action: "start" } },
  // @ts-expect-error: no such action
  { ...about(), type: "interaction", data: { action: "jump" } },
  // @ts-expect-error: a session without its id
  { ...about(), type: "session", data: { action: "start" } },
];

const client = createClient<paths>({ baseUrl: baseUrl!, headers: { Authorization: `Bearer ${key}` } });
const { data, error } = await client.POST("/v1/events", { body: { sent_at: new Date().toISOString(), events } });
assert(data, JSON.stringify(error));
assert.deepEqual(
  data.results.map((result) => result.outcome),
  ["accepted", "accepted", "accepted", "accepted"],
  JSON.stringify(data),
);

const stranger = createClient<paths>({ baseUrl: baseUrl! });
const refused = await stranger.POST("/v1/events", { body: { events } });
assert.equal(refused.error?.code, "unauthorized");
