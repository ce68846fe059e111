import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, memoryStore, message, session, startSession } from "../dist/index.js";
import { fileStore } from "../dist/node.js";
import { CHILD, WALL, client, clocks, config, folder, results, scripted } from "./support.js";

const outcomes =
  (...words) =>
  (_, index) =>
    words[index];
const rejected = (code) => ({ outcome: "rejected", code, pointer: "/data", message: "no" });

test("an event is sent as it was made, and forgotten when it is accepted", async (t) => {
  const server = await scripted(t);
  const { rivulet, child } = client(t, server.url, { device: { platform: "web", appVersion: "4.12.1" } });
  const options = { sessionId: "s", attributes: { experiment: "b" } };
  const { id, stored } = await child.answer(
    { correct: true, subject: "math", responseTimeMs: 2300 },
    options,
  );
  assert.equal(stored, true);
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  const [{ body, headers, authorization }] = server.posts;
  assert.equal(authorization, "Bearer key");
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["content-encoding"], "gzip");
  assert.deepEqual(body, {
    sent_at: "2026-05-04T09:30:00.000Z",
    events: [
      {
        id,
        type: "interaction",
        child_id: CHILD,
        occurred_at: "2026-05-04T09:30:00.000Z",
        session_id: "s",
        device: { platform: "web", app_version: "4.12.1" },
        attributes: { experiment: "b" },
        data: { action: "answer", is_correct: true, subject: "math", response_time_ms: 2300 },
      },
    ],
  });
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(parseInt(id.replace("-", "").slice(0, 12), 16), WALL);
  const { accepted, store } = await rivulet.stats();
  assert.deepEqual({ accepted, store }, { accepted: 1, store: "memory" });
});

test("each builder gives the fields of the wire", () => {
  const fields = {
    conversationId: "c",
    sequence: 1,
    role: "user",
    question: true,
    freeForm: false,
    ahaMoment: true,
  };
  assert.deepEqual(message(fields, { sessionId: "s" }), {
    type: "message",
    sessionId: "s",
    data: {
      conversation_id: "c",
      sequence: 1,
      role: "user",
      is_question: true,
      is_free_form: false,
      aha_moment: true,
    },
  });
  assert.deepEqual(session({ action: "end", activeMs: 5 }, { sessionId: "s" }).data, {
    action: "end",
    active_ms: 5,
  });
});

test("what is rejected is forgotten and told; what is to be sent again is sent verbatim", async (t) => {
  const server = await scripted(t, [
    ({ events }) => [
      200,
      results(events, outcomes({ outcome: "accepted" }, rejected("invalid_field"), { outcome: "retry" })),
      { "Retry-After": "10" },
    ],
    ({ events }) => [200, results(events)],
  ]);
  const { rivulet, child, clock, told } = client(t, server.url);
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push((await child.view()).id);
  // Ten seconds and half of a fifth of them.
  assert.deepEqual(await rivulet.flush(), { queued: 1, waitMs: 11_000, stopped: null });
  assert.deepEqual(told.rejected, [{ id: ids[1], code: "invalid_field", pointer: "/data", message: "no" }]);
  clock.pass(10_999);
  await rivulet.flush();
  assert.equal(server.posts.length, 1);
  clock.pass(1);
  assert.equal((await rivulet.flush()).queued, 0);
  assert.deepEqual(server.posts[1].body.events, [server.posts[0].body.events[2]]);
  const { accepted, rejected: refused } = await rivulet.stats();
  assert.deepEqual({ accepted, refused }, { accepted: 2, refused: { invalid_field: 1 } });
});

const portals = {
  "a page of a captive portal": () => [200, "<html>sign in</html>", { "Content-Type": "text/html" }],
  "half an answer": ({ events }) => [200, JSON.stringify(results(events)).slice(0, -10)],
  "results of another batch": ({ events }) => [200, results(events.map(() => ({ id: "other" })))],
  "too few results": ({ events }) => [200, results(events.slice(1))],
  "an outcome that is none": ({ events }) => [200, results(events, () => ({ outcome: "lost" }))],
  "no time": ({ events }) => [200, { ...results(events), received_at: "today" }],
  "a status of a proxy": () => [502, "bad gateway"],
  "a broken connection": () => "break",
  "no answer in time": () => "hang",
  "too slow": () => [408, {}],
};
for (const [name, answers] of Object.entries(portals)) {
  test(`${name} is no answer: the batch stays, and waits longer each time`, async (t) => {
    const server = await scripted(t, [answers]);
    const { rivulet, child, clock } = client(t, server.url, { timeoutMs: 200 });
    await child.view();
    await child.view();
    const waits = [];
    for (let n = 1; n <= 10; n++) {
      const { queued, waitMs } = await rivulet.flush();
      assert.equal(queued, 2);
      waits.push(waitMs);
      clock.pass(waitMs);
      if (name === "no answer in time" && n === 2) break;
    }
    const expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 150_000, 150_000];
    assert.deepEqual(waits, expected.slice(0, waits.length));
    assert.equal(server.posts.length, waits.length);
  });
}

test("an accepted event ends the failures", async (t) => {
  const server = await scripted(t, [
    () => [503, {}],
    () => [503, {}],
    ({ events }) => [200, results(events, outcomes({ outcome: "accepted" }, { outcome: "retry" }))],
  ]);
  const { rivulet, child, clock } = client(t, server.url);
  await child.view();
  await child.view();
  const waits = [];
  for (let n = 0; n < 3; n++) {
    waits.push((await rivulet.flush()).waitMs);
    clock.pass(waits.at(-1));
  }
  assert.deepEqual(waits, [1_000, 2_000, 1_000]);
});

test("Retry-After may be a date, and is an hour at most", async (t) => {
  const server = await scripted(t, [
    () => [503, {}, { "Retry-After": new Date(WALL + 20_000).toUTCString() }],
    () => [429, {}, { "Retry-After": "999999" }],
    () => [429, {}, { "Retry-After": "soon" }],
  ]);
  const { rivulet, child, clock } = client(t, server.url);
  await child.view();
  assert.equal((await rivulet.flush()).waitMs, 22_000);
  clock.pass(22_000);
  assert.equal((await rivulet.flush()).waitMs, 3_600_000);
  clock.pass(3_600_000);
  // By itself: the third failure.
  assert.equal((await rivulet.flush()).waitMs, 4_000);
});

test("a 401 asks for another token once", async (t) => {
  const good = ["t2"];
  const server = await scripted(t, [
    (_, { authorization, body }) =>
      good.includes(authorization.slice(7)) ? [200, results(body.events)] : [401, { code: "unauthorized" }],
  ]);
  let asked = 0;
  const { rivulet, child, clock, told } = client(t, server.url, { credential: async () => `t${++asked}` });
  await child.view();
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  assert.deepEqual(
    server.posts.map((post) => post.authorization),
    ["Bearer t1", "Bearer t2"],
  );
  good[0] = "t5";
  await child.view();
  assert.deepEqual(await rivulet.flush(), { queued: 1, waitMs: 3_600_000, stopped: "unauthorized" });
  assert.equal(asked, 3);
  assert.deepEqual(told.stopped, ["unauthorized"]);
  clock.pass(3_599_999);
  await rivulet.flush();
  assert.equal(server.posts.length, 4);
  // After an hour it tries again by itself: t4 is refused, t5 is not.
  clock.pass(1);
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
});

for (const [status, reason] of [
  [401, "unauthorized"],
  [403, "forbidden"],
]) {
  test(`${status} stops, keeps all, and a new credential goes on`, async (t) => {
    const server = await scripted(t, [
      (body, { authorization }) =>
        authorization === "Bearer new" ? [200, results(body.events)] : [status, {}],
    ]);
    const { rivulet, child, told } = client(t, server.url);
    await child.view();
    assert.deepEqual(await rivulet.flush(), { queued: 1, waitMs: 3_600_000, stopped: reason });
    await rivulet.flush();
    assert.equal(server.posts.length, 1);
    assert.deepEqual(told.stopped, [reason]);
    rivulet.setCredential("new");
    assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  });
}

test("a token that has expired is refused, and the next one is asked for at once", async (t) => {
  const clock = clocks();
  const expiry = ({ authorization }) => JSON.parse(atob(authorization.split(".")[1])).exp * 1_000;
  const server = await scripted(t, [
    ({ events }, post) =>
      expiry(post) > clock.wall() ? [200, results(events, undefined, clock.wall())] : [401, {}],
  ]);
  const jwt = (exp) => `e30.${btoa(JSON.stringify({ exp, sub: "family" }))}.sig`;
  let asked = 0;
  const credential = () => (asked++, jwt(clock.wall() / 1_000 + 120));
  const { rivulet, child, told } = client(t, server.url, { clock, credential });
  for (const pass of [0, 119_999, 1]) {
    clock.pass(pass);
    await child.view();
    assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  }
  assert.deepEqual([asked, server.posts.length, told.stopped], [2, 4, []]);
});

test("a function that gives no token is no answer", async (t) => {
  const server = await scripted(t);
  const { rivulet, child } = client(t, server.url, {
    credential: () => Promise.reject(new Error("offline")),
  });
  await child.view();
  assert.deepEqual(await rivulet.flush(), { queued: 1, waitMs: 1_000, stopped: null });
});

test("another 4xx is told, kept, and waited for", async (t) => {
  const server = await scripted(t, [() => [415, { code: "unsupported_media_type" }]]);
  const { rivulet, child, told } = client(t, server.url);
  await child.view();
  assert.deepEqual(await rivulet.flush(), { queued: 1, waitMs: 1_000, stopped: null });
  assert.deepEqual(told.refused, [[415, "unsupported_media_type"]]);
});

test("413 halves the batch down to the event that is too large, and success lets it grow", async (t) => {
  const bad = new Set();
  const sizes = [];
  const server = await scripted(t, [
    ({ events }) => {
      sizes.push(events.length);
      const fits = events.length <= 4 && !events.some(({ id }) => bad.has(id));
      return fits ? [200, results(events)] : [413, { code: "body_too_large" }];
    },
  ]);
  const { rivulet, child, told } = client(t, server.url);
  for (let i = 0; i < 10; i++) bad[i === 5 ? "add" : "has"]((await child.view()).id);
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  assert.deepEqual(told.dropped, [["too_large", 1]]);
  const { accepted, dropped } = await rivulet.stats();
  assert.deepEqual({ accepted, dropped }, { accepted: 9, dropped: { too_large: 1 } });
  assert.deepEqual(sizes, [10, 5, 2, 4, 2, 4, 2, 1, 2, 1, 1, 2, 1]);
});

test("a batch has 200 events and 500 kB at most, or what the server takes", async (t) => {
  let most = 1_000;
  const server = await scripted(t, [], () => [200, config({ max_events: most })]);
  const { rivulet, child, clock } = client(t, server.url);
  for (let i = 0; i < 450; i++) await child.view();
  await rivulet.flush();
  const text = "ü".repeat(4_000);
  for (let i = 0; i < 100; i++)
    await child.message({ conversationId: CHILD, sequence: 1, role: "user", content: text });
  await rivulet.flush();
  most = 50;
  clock.pass(3_600_000);
  for (let i = 0; i < 60; i++) await child.view();
  await rivulet.flush();
  assert.deepEqual(
    server.posts.map(({ body }) => body.events.length),
    [200, 200, 50, 60, 40, 50, 10],
  );
  for (const { text } of server.posts) assert.ok(Buffer.byteLength(text) <= 500_200);
});

test("an event over the limit is dropped when it is tracked", async (t) => {
  const server = await scripted(t, [], () => [200, config({ max_event_bytes: 400 })]);
  const { rivulet, child } = client(t, server.url);
  await rivulet.flush();
  const receipt = await child.view({ topic: "%41".repeat(90) });
  assert.deepEqual([receipt.stored, receipt.dropped], [false, "too_large"]);
  const { stored } = await child.view({ topic: "%41".repeat(20) });
  assert.equal(stored, true);
});

test("the server is told of each loss once", async (t) => {
  const server = await scripted(t, [() => [503, {}], ({ events }) => [200, results(events)]]);
  const { rivulet, child, clock } = client(t, server.url, { maxEvents: 3 });
  for (let i = 0; i < 5; i++) await child.view();
  const { waitMs } = await rivulet.flush();
  clock.pass(waitMs);
  await rivulet.flush();
  await child.view();
  await rivulet.flush();
  for (let i = 0; i < 4; i++) await child.view();
  await rivulet.flush();
  const told = server.posts.map(({ body }) => body.dropped);
  assert.deepEqual(told, [{ overflow: 2 }, { overflow: 2 }, undefined, { overflow: 1 }]);
});

test("the queue is bounded by bytes, and the oldest go", async (t) => {
  const server = await scripted(t);
  const { rivulet, child, told } = client(t, server.url, { maxBytes: 700 });
  const ids = [];
  for (let i = 0; i < 5; i++) ids.push((await child.view()).id);
  await rivulet.flush();
  const sent = server.posts[0].body.events.map(({ id }) => id);
  assert.ok(sent.length > 1 && sent.length < 5);
  assert.deepEqual(sent, ids.slice(-sent.length));
  assert.equal(told.dropped.length, 5 - sent.length);
});

test("events are good for 30 days of their own clock", async (t) => {
  const server = await scripted(t, [() => [503, {}], ({ events }) => [200, results(events)]]);
  const { rivulet, child, clock, told } = client(t, server.url);
  await child.view();
  await rivulet.flush();
  clock.pass(86_400_000);
  await child.view();
  clock.pass(29 * 86_400_000 + 1);
  // The clock of the device is set: no event is older by that.
  clock.set(400 * 86_400_000);
  await rivulet.flush();
  assert.deepEqual(told.dropped, [["expired", 1]]);
  assert.equal(server.posts.at(-1).body.events.length, 1);
});

test("a clock that is set begins an epoch: a batch is of one, with what its clock reads now", async (t) => {
  const server = await scripted(t);
  const { rivulet, child, clock } = client(t, server.url);
  await child.view();
  clock.pass(5_000);
  clock.set(1_999);
  await child.view();
  clock.set(-86_400_000);
  await child.view();
  clock.pass(60_000);
  await rivulet.flush();
  // Before the first it asks what time it is.
  const sent = server.posts.slice(1).map(({ body }) => [body.sent_at, body.events.length]);
  assert.deepEqual(sent, [
    [new Date(WALL + 65_000).toISOString(), 2],
    [new Date(WALL + 65_000 + 1_999 - 86_400_000).toISOString(), 1],
  ]);
});

test("an id has the server's time once it is known; occurred_at is the device's", async (t) => {
  const day = 86_400_000;
  const server = await scripted(t, [({ events }) => [200, results(events, undefined, WALL + day)]]);
  const { rivulet, child } = client(t, server.url);
  await child.view();
  await rivulet.flush();
  const { id } = await child.view();
  await rivulet.flush();
  assert.equal(parseInt(id.replace("-", "").slice(0, 12), 16), WALL + day);
  assert.equal(server.posts[1].body.events[0].occurred_at, new Date(WALL).toISOString());
});

test("events of an earlier run are sent by what its clock would read now", async (t) => {
  const hour = 3_600_000;
  const store = memoryStore();
  store.close = async () => {};
  const received = [WALL + hour, WALL + 10 * hour];
  const server = await scripted(t, [
    ({ events }) => [200, results(events, undefined, received.length > 1 ? received.shift() : received[0])],
  ]);
  const first = client(t, server.url, { store });
  await first.child.view();
  await first.rivulet.flush();
  // An hour behind the server, and it was told so.
  const { id: old } = await first.child.view();
  await first.rivulet.close();

  const clock = clocks();
  clock.set(9.5 * hour);
  const second = client(t, server.url, { store, clock });
  const { id: young } = await second.child.view();
  await second.rivulet.flush();
  // How far off the clock is now has to be known first.
  const sent = server.posts.slice(1).map(({ body }) => [body.sent_at, body.events.map(({ id }) => id)]);
  assert.deepEqual(sent.slice(1), [
    // The server has 10 h; the clock of then was an hour behind.
    [new Date(WALL + 9 * hour).toISOString(), [old]],
    [new Date(WALL + 9.5 * hour).toISOString(), [young]],
  ]);
  assert.deepEqual(sent[0][1], []);
});

test("a clock that was set before a restart moves no event of before", async (t) => {
  const hour = 3_600_000;
  const server = await scripted(t);
  const dir = folder(t);
  const first = client(t, server.url, { store: fileStore(dir) });
  await first.child.view();
  first.clock.set(-9 * hour);
  await first.child.view();
  first.clock.set(-2 * hour);
  await first.child.view();
  await first.rivulet.close();
  const clock = clocks();
  clock.set(-11 * hour + 60_000);
  const second = client(t, server.url, { store: fileStore(dir), clock });
  await second.child.view();
  await second.rivulet.flush();
  const sent = server.posts.slice(1).map(({ body }) => Date.parse(body.sent_at) - WALL);
  assert.deepEqual(
    sent,
    [0, -9 * hour, -11 * hour, -11 * hour].map((ms) => ms + 60_000),
  );
});

test("a night is told from a clock that was set forward, where the monotonic clock does not count it", async (t) => {
  const hour = 3_600_000;
  // For both the wall clock is eight hours on, and the other one is not: what the server says tells which it was.
  for (const [slept, expected] of [
    [8 * hour, 8 * hour],
    [0, 0],
  ]) {
    const server = await scripted(t, [({ events }) => [200, results(events, undefined, WALL + slept + 60_000)]]);
    const { rivulet, child, clock } = client(t, server.url);
    await child.view();
    clock.pass(60_000);
    clock.set(8 * hour);
    await child.view();
    await rivulet.flush();
    const [, first, second] = server.posts.map(({ body }) => Date.parse(body.sent_at) - WALL - 60_000);
    assert.deepEqual([first, second], [expected, 8 * hour]);
  }
});

test("the config comes at the start and each hour; its kill switch keeps everything", async (t) => {
  let enabled = false;
  const server = await scripted(t, [], () => [200, config({ enabled })]);
  const { rivulet, child, clock, told } = client(t, server.url);
  await child.view();
  assert.deepEqual(await rivulet.flush(), { queued: 1, waitMs: 600_000, stopped: "disabled" });
  clock.pass(599_999);
  await rivulet.flush();
  assert.deepEqual([server.configs.length, server.posts.length], [1, 0]);
  enabled = true;
  clock.pass(1);
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  assert.deepEqual(told.stopped, ["disabled"]);
  clock.pass(3_599_999);
  await rivulet.flush();
  assert.equal(server.configs.length, 2);
  clock.pass(1);
  await rivulet.flush();
  assert.equal(server.configs.length, 3);
});

for (const theConfig of [() => [503, {}], () => [200, "<html>"], () => "break", () => [404, {}]]) {
  test(`without a config it goes on as before: ${theConfig()}`, async (t) => {
    const server = await scripted(t, [], theConfig);
    const { rivulet, child } = client(t, server.url);
    await child.view();
    assert.equal((await rivulet.flush()).queued, 0);
  });
}

const speech = { audioSessionId: CHILD, windowMs: 1_000 };

test("speech without consent stops and purges that child's speech", async (t) => {
  const server = await scripted(t, [
    ({ events }) => [
      200,
      results(events, ({ type }) =>
        type === "speech" ? rejected("consent_required") : { outcome: "retry" },
      ),
    ],
  ]);
  const { rivulet, child, told } = client(t, server.url);
  await child.speech(speech);
  await child.view();
  await rivulet.flush();
  assert.equal((await child.speech(speech)).dropped, "consent");
  assert.equal((await child.view()).stored, true);
  assert.equal((await rivulet.child("another").speech(speech)).stored, true);
  assert.deepEqual(
    told.rejected.map(({ code }) => code),
    ["consent_required"],
  );
  const { queued, dropped } = await rivulet.stats();
  assert.deepEqual({ queued, dropped }, { queued: 3, dropped: { consent: 1 } });
});

test("any other event without consent stops and purges all of that child", async (t) => {
  const server = await scripted(
    t,
    [
      ({ events }) => [
        200,
        results(events, ({ child_id }) =>
          child_id === CHILD ? rejected("consent_required") : { outcome: "accepted" },
        ),
      ],
    ],
    () => [200, config({ max_events: 1 })],
  );
  const { rivulet, child } = client(t, server.url);
  await child.view();
  await child.view();
  await child.speech(speech);
  await rivulet.child("another").view();
  assert.equal((await rivulet.flush()).queued, 0);
  assert.equal(server.posts.length, 2);
  assert.equal((await child.view()).dropped, "consent");
  const { accepted, rejected: refused, dropped } = await rivulet.stats();
  assert.deepEqual([accepted, refused, dropped], [1, { consent_required: 1 }, { consent: 3 }]);
  await rivulet.setConsent({ coppa: true });
  assert.equal((await child.view()).stored, true);
});

test("the family's consents stop and purge, and are asked for again", async (t) => {
  let consents = { coppa: true, audio: false, analytics: false };
  const server = await scripted(t, [], () => [200, config({ consents })]);
  const { rivulet, child, clock } = client(t, server.url);
  await child.speech(speech);
  await child.view();
  await rivulet.flush();
  assert.deepEqual(
    server.posts[0].body.events.map(({ type }) => type),
    ["interaction"],
  );
  assert.equal((await child.speech(speech)).dropped, "consent");
  consents = { coppa: false, audio: true, analytics: false };
  clock.pass(3_600_000);
  await child.view();
  await rivulet.flush();
  assert.equal(server.posts.length, 1);
  assert.equal((await child.view()).dropped, "consent");
  consents = { coppa: true, audio: true, analytics: false };
  clock.pass(3_600_000);
  await rivulet.flush();
  assert.equal((await child.speech(speech)).stored, true);
});

test("what the app refuses only the app grants", async (t) => {
  const consents = { coppa: true, audio: true, analytics: true };
  const server = await scripted(t, [], () => [200, config({ consents })]);
  const { rivulet, child } = client(t, server.url);
  await child.view();
  await rivulet.setConsent({ coppa: false });
  assert.equal((await rivulet.stats()).queued, 0);
  await rivulet.flush();
  assert.equal((await child.view()).dropped, "consent");
  await rivulet.setConsent({ coppa: true });
  assert.equal((await child.view()).stored, true);
});

test("an event that is on its way into the store when consent is withdrawn is not sent", async (t) => {
  const server = await scripted(t);
  const { rivulet, child, told } = client(t, server.url);
  await rivulet.ready;
  const tracked = child.view();
  await rivulet.setConsent({ coppa: false });
  await tracked;
  assert.equal((await rivulet.flush()).queued, 0);
  assert.deepEqual(server.posts, []);
  assert.deepEqual(told.dropped, [["consent", 1]]);
});

test("a credential that is replaced while the old one is refused is used at once", async (t) => {
  let rivulet;
  const server = await scripted(t, [
    () => (rivulet.setCredential("new"), [401, {}]),
    ({ events }) => [200, results(events)],
  ]);
  const made = client(t, server.url);
  ({ rivulet } = made);
  await made.child.view();
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  assert.deepEqual(
    server.posts.map((post) => post.authorization),
    ["Bearer key", "Bearer new"],
  );
});

test("a store that fails loses nothing up to 1 000 events, and throws nothing", async (t) => {
  const server = await scripted(t);
  const store = memoryStore();
  const apply = store.apply.bind(store);
  const { rivulet, child, told } = client(t, server.url, { store });
  await child.view();
  store.apply = async () => {
    throw new Error("disk full");
  };
  const first = await child.view();
  assert.deepEqual(first, { id: first.id, stored: false });
  for (let i = 0; i < 1_004; i++) await child.view();
  assert.deepEqual(told.dropped, Array(5).fill(["disk", 1]));
  const full = await rivulet.stats();
  assert.deepEqual([full.queued, full.dropped], [1_001, { disk: 5 }]);
  // Sent from memory, and not sent again though it cannot be removed.
  assert.equal((await rivulet.flush()).queued, 0);
  assert.equal((await rivulet.flush()).queued, 0);
  const sent = server.posts.flatMap(({ body }) => body.events.map(({ id }) => id));
  assert.deepEqual([sent.length, new Set(sent).size], [1_001, 1_001]);
  store.apply = apply;
  assert.equal((await child.view()).stored, true);
  const { accepted, dropped, queued } = await rivulet.stats();
  assert.deepEqual({ accepted, dropped, queued }, { accepted: 1_001, dropped: { disk: 5 }, queued: 1 });
});

test("a store that can forget nothing makes no request twice, and no loss is told twice", async (t) => {
  const day = 86_400_000;
  const bad = new Set();
  const server = await scripted(t, [
    ({ events }) =>
      events.some(({ id }) => bad.has(id)) ? [413, {}] : [200, results(events, undefined, clock.wall())],
  ]);
  const store = memoryStore();
  const { rivulet, child, clock, told } = client(t, server.url, { store, maxEvents: 4 });
  await child.view();
  clock.pass(31 * day);
  bad.add((await child.view()).id);
  for (let i = 0; i < 2; i++) await child.view();
  const { apply } = store;
  store.apply = async () => {
    throw new Error("disk full");
  };
  for (let i = 0; i < 5; i++) {
    await rivulet.flush();
    clock.pass(60_000);
  }
  const sizes = server.posts.map(({ body }) => body.events.length);
  // One was too old; the first of the others is too large.
  assert.deepEqual(sizes, [3, 1, 1, 1]);
  const more = await child.view();
  assert.equal(more.stored, false);
  for (let i = 0; i < 3; i++) assert.equal((await rivulet.flush()).queued, 0);
  assert.equal(server.posts.length, 5);
  assert.deepEqual(told.dropped, [
    ["expired", 1],
    ["too_large", 1],
  ]);
  store.apply = apply;
  for (let i = 0; i < 3; i++) {
    await child.view();
    await rivulet.flush();
  }
  const losses = server.posts.map(({ body }) => body.dropped).filter(Boolean);
  assert.deepEqual(losses, [{ expired: 1, too_large: 1 }]);
  const { accepted, dropped, queued } = await rivulet.stats();
  assert.deepEqual([accepted, dropped, queued], [6, { expired: 1, too_large: 1 }, 0]);
});

test("a loss that was told while the store fails is not told again", async (t) => {
  const server = await scripted(t);
  const store = memoryStore();
  const { rivulet, child } = client(t, server.url, { store, maxUnsaved: 2 });
  const { apply } = store;
  store.apply = async () => {
    throw new Error("disk full");
  };
  for (let i = 0; i < 5; i++) await child.view();
  await rivulet.flush();
  for (let i = 0; i < 4; i++) await child.view();
  await rivulet.flush();
  store.apply = apply;
  await child.view();
  await rivulet.flush();
  assert.deepEqual(
    server.posts.map(({ body }) => [body.events.length, body.dropped]),
    [
      [2, { disk: 3 }],
      [2, { disk: 2 }],
      [1, undefined],
    ],
  );
  const { accepted, dropped } = await rivulet.stats();
  assert.deepEqual([accepted, dropped], [5, { disk: 5 }]);
});

test("without any store events wait in memory", async (t) => {
  const server = await scripted(t);
  const { rivulet, child, told } = client(t, server.url, { store: undefined });
  await child.view();
  assert.ok(told.log.some((line) => line.startsWith("no indexeddb")));
  assert.equal((await rivulet.stats()).store, "memory");
  assert.equal((await rivulet.flush()).queued, 0);
  assert.equal((await rivulet.stats()).accepted, 1);
});

test("what the app gets wrong ends nothing", async (t) => {
  const server = await scripted(t, [({ events }) => [200, results(events, () => rejected("invalid_field"))]]);
  const fails = () => {
    throw new Error("the app's");
  };
  const { rivulet, child } = client(t, server.url, { onRejected: fails, onDropped: fails, debug: fails });
  const circle = {};
  circle.circle = circle;
  assert.equal((await child.view({}, { attributes: circle })).dropped, "disk");
  await child.view();
  assert.equal((await rivulet.flush()).queued, 0);
});

test("the log has no content", async (t) => {
  const server = await scripted(t, [
    ({ events }) => [200, results(events, () => rejected("consent_required"))],
  ]);
  const { rivulet, child, told } = client(t, server.url, { credential: "secret-key" });
  await child.view({ topic: "secret topic" });
  await rivulet.flush();
  await child.view();
  const log = told.log.join("\n");
  assert.ok(log.includes("/v1/events 200"));
  for (const word of ["secret", CHILD]) assert.ok(!log.includes(word), log);
});

test("it sends by itself: at the start, each interval, when 200 are gathered, and at the end", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const sent = [];
  const fetch = async (url, { body }) => {
    if (!body) return Response.json(config({ flush_interval_s: 7 }));
    const stream = new Response(body).body.pipeThrough(new DecompressionStream("gzip"));
    const { events } = JSON.parse(await new Response(stream).text());
    sent.push(events.length);
    return Response.json(results(events));
  };
  const turns = async (most, until) => {
    for (let i = 0; i < most && !until(); i++) await new Promise((resolve) => setImmediate(resolve));
  };
  const sends = async (...sizes) => {
    // Until they are there, and long enough for one too many.
    await turns(1e6, () => sent.length >= sizes.length);
    await turns(200, () => false);
    assert.deepEqual(sent, sizes);
  };
  const store = memoryStore();
  await store.apply({
    add: [
      { id: "a", epoch: "e", set: 0, at: WALL, child: "c", type: "message", size: 2, json: '{"id":"a"}' },
    ],
  });
  store.close = async () => {};
  const { rivulet, child } = client(t, "http://rivulet.invalid", { automatic: true, fetch, store });
  await sends(1);
  await child.view();
  t.mock.timers.tick(6_999);
  await sends(1);
  t.mock.timers.tick(1);
  await sends(1, 1);
  for (let i = 0; i < 199; i++) await child.view();
  await sends(1, 1);
  await child.view();
  await sends(1, 1, 200);
  await child.view();
  await rivulet.close();
  assert.deepEqual(sent, [1, 1, 200, 1]);
});

test("a session tells its active time exactly", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const server = await scripted(t);
  let tell;
  const lifecycle = (listener) => {
    tell = listener;
    return () => {};
  };
  const { rivulet, child, clock } = client(t, server.url, { lifecycle });
  const session = startSession(child, { kind: "quiz", deviceType: "tablet", attributes: { level: 3 } });
  const beat = (ms) => {
    clock.pass(ms);
    t.mock.timers.tick(60_000);
  };
  beat(60_000);
  clock.pass(1_500);
  tell(false);
  beat(60_000);
  tell(true);
  clock.pass(2_250);
  // Asleep for three minutes.
  beat(180_000);
  clock.pass(10);
  session.pause();
  tell(false);
  tell(true);
  clock.pass(500);
  session.resume();
  clock.pass(40);
  await session.end();
  await session.end();
  beat(60_000);
  await rivulet.flush();
  const { events } = server.posts[0].body;
  assert.deepEqual(
    events.map(({ data }) => [data.action, data.active_ms]),
    [
      ["start", 0],
      ["heartbeat", 60_000],
      ["pause", 1_500],
      ["resume", 0],
      ["heartbeat", 0],
      ["pause", 10],
      ["resume", 0],
      ["end", 40],
    ],
  );
  for (const event of events) {
    assert.equal(event.session_id, session.id);
    assert.deepEqual(
      [event.data.kind, event.data.device_type, event.attributes],
      ["quiz", "tablet", { level: 3 }],
    );
  }
});
