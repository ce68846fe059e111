import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, hint, start } from "../dist/index.js";
import { fake } from "../dist/fake.js";

test("a fake has what was tracked, at once, and says what is missing", async () => {
  const rivulet = fake({ device: { platform: "ios" } });
  const child = rivulet.child("c1");
  child.answer({ correct: true, subject: "math" }, { attributes: { experiment: "b" } });
  assert.equal(rivulet.events.length, 1);
  const event = rivulet.assertTracked(answer({ correct: true }), "c1");
  assert.deepEqual([event.data.subject, event.device], ["math", { platform: "ios" }]);
  rivulet.assertTracked(answer({ correct: true }, { attributes: { experiment: "b" } }));
  assert.throws(() => rivulet.assertTracked(answer({ correct: false })), /data\.is_correct is true, not false/);
  assert.throws(() => rivulet.assertTracked(hint(), "c2"), /child_id is "c1", not "c2", data\.action is "answer", not "hint"/);
  rivulet.assertNotTracked(start());
  assert.throws(() => rivulet.assertNotTracked(answer({ correct: true })), /there is such an event/);
  assert.deepEqual(await rivulet.flush(), { queued: 0, waitMs: null, stopped: null });
  assert.equal((await rivulet.stats()).accepted, 1);
  rivulet.clear();
  assert.throws(() => rivulet.assertTracked(start()), /no interaction with .* among 0 events/);
  await rivulet.close();
});
