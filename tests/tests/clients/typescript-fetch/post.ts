// Posts an event of each type with the client that openapi-generator's typescript-fetch makes.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Configuration, EventsApi, ResponseError, type Event } from "./client/index.js";

const { INGEST_URL: basePath, INGEST_KEY: accessToken, CHILD: childId } = process.env as Record<string, string>;

const about = () => ({ id: randomUUID(), childId: childId!, occurredAt: new Date() });
const events: Event[] = [
  {
    ...about(),
    type: "interaction",
    device: { platform: "ios", appVersion: "4.12.1" },
    attributes: { experiment: "b", price: 0.5, trial: true },
    data: { action: "answer", isCorrect: true, confidence: 0.25 },
  },
  { ...about(), type: "message", data: { conversationId: randomUUID(), sequence: 1, role: "user" } },
  { ...about(), type: "speech", data: { audioSessionId: randomUUID(), windowMs: 30_000, snrDb: 12.5 } },
  { ...about(), type: "session", sessionId: randomUUID(), data: { action: "start", kind: "learning" } },
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

const api = new EventsApi(new Configuration({ basePath: basePath!, accessToken: accessToken! }));
const receipt = await api.postEvents({ batch: { sentAt: new Date(), events } });
assert.deepEqual(
  receipt.results.map((result) => result.outcome),
  ["accepted", "accepted", "accepted", "accepted"],
  JSON.stringify(receipt),
);

const stranger = new EventsApi(new Configuration({ basePath: basePath! }));
const refused: unknown = await stranger.postEvents({ batch: { events } }).catch((error: unknown) => error);
assert(refused instanceof ResponseError, String(refused));
assert.equal((await refused.response.json()).code, "unauthorized");
