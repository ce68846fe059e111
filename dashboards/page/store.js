// What is known of the family, and how it is got: asked for once, then kept true by the live stream.

import { Problem, backoff, get } from './api.js';
import { addDays, dayIn } from './days.js';
import { follow } from './live.js';
import { pageBefore } from './periods.js';

/** The least time between two looks at what the live stream does not bring, ms. */
const REFRESH = 2_000;

/**
 * `phase` is `loading`, `ready`, `failed` (tried again by itself), `expired` or `missing`; `live` whether the
 * stream is up, null before it was tried; `asOf` when the numbers were last known to be true.
 */
export const state = { phase: 'loading', live: null, asOf: null, problem: null, children: [] };

let session;
let changed = () => {};
let ended = new AbortController();

/** Follows a family until `stop`; `listener` is called after each change, with the update that made it. */
export function start(who, listener) {
  stop();
  session = who;
  changed = listener;
  ended = new AbortController();
  Object.assign(state, { phase: 'loading', live: null, asOf: null, problem: null, children: [] });
  load(ended.signal);
}

export function stop() {
  ended.abort();
  clearInterval(midnight);
}

const familyPath = () => `/v1/families/${encodeURIComponent(session.parent)}`;

export const childOf = (id) => state.children.find((child) => child.id === id);

/** The child's first day that is known of; null if there is none. */
export function firstDay(child) {
  const days = [child.streak?.active_days?.[0]?.from, ...child.rows.keys()];
  for (const topic of child.topics ?? []) days.push(dayIn(state.timezone, new Date(topic.first_seen_at)));
  return days.filter(Boolean).sort()[0] ?? null;
}

let midnight;

async function load(signal) {
  const family = await insist(familyPath(), signal, (problem) => {
    Object.assign(state, { phase: 'failed', problem });
    changed();
  });
  if (!family) return;
  take(family);
  changed();
  await Promise.all(state.children.map((child) => loadDays(child, addDays(state.today, -30), state.today, signal)));
  if (signal.aborted) return;
  Object.assign(state, { asOf: new Date() });
  changed();
  follow(session.token, `${familyPath()}/live`, {
    update,
    state(live) {
      if (live) state.asOf = new Date();
      if (state.live === live) return;
      // A child may have come or gone meanwhile, of whom the stream says nothing.
      if (live && state.live === false) reload(signal);
      state.live = live;
      changed();
    },
    refused: () => end(401),
  }, signal);
  clearInterval(midnight);
  midnight = setInterval(() => newDay(signal), 20_000);
}

function take(family) {
  const known = new Map(state.children.map((child) => [child.id, child]));
  // The same object as before: answers that are still on their way are put into it.
  const children = family.children.map((entry, index) => Object.assign(
    known.get(entry.child_id)
      ?? { rows: new Map(), streak: null, topics: null, moreTopics: false, learning: new Map(), asked: new Map() },
    { id: entry.child_id, age: entry.age_group, number: index + 1, streakToday: entry.streak_today },
  ));
  Object.assign(state, {
    phase: 'ready', problem: null, timezone: family.timezone, today: family.today, children,
    // A service that knows no such switch shows them.
    streaks: family.streaks !== false,
  });
}

/** After midnight, where the family lives, everything is asked for again: weeks and streaks move. */
function newDay(signal) {
  const day = dayIn(state.timezone);
  if (day && day > state.today) reload(signal);
}

/** The family as it is now: another day, or a child more or less. */
async function reload(signal) {
  try {
    const family = await get(session.token, familyPath(), signal);
    if (family.today !== state.today || family.timezone !== state.timezone) for (const child of state.children) child.asked.clear();
    take(family);
    changed();
  } catch (error) {
    // If nobody answered, the next tick asks again.
    if (error instanceof Problem) end(error.status);
  }
}

/** What the stream brings: rows of days that changed, days without any, and the streak as it is now. */
function update({ child_id: id, today, timezone, days, empty = [], streak }) {
  const child = childOf(id);
  // A child that is new here, another day, a move, streaks switched on or off: the family says how it is now.
  if (!child || today > state.today || timezone !== state.timezone || Boolean(streak) !== state.streaks) reload(ended.signal);
  if (!child) return;
  const fresh = days.filter((row) => keep(child, row, true));
  const gone = empty.filter((day) => child.rows.delete(day));
  if (streak && state.streaks) Object.assign(child, { streak, streakToday: streak.streak_today });
  state.asOf = new Date();
  if (fresh.length || gone.length) refreshSoon(child);
  changed({ child, days: fresh });
}

/**
 * Whether it is news. The stream is always right; an answer may have been overtaken by it. `events` tells, for it
 * only grows; `updated_at` does not, for it is when the last transaction began, not when it ended.
 */
function keep(child, row, isLive = false) {
  const known = child.rows.get(row.local_date);
  if (known && !isLive && known.events > row.events) return false;
  child.rows.set(row.local_date, row);
  return JSON.stringify(known) !== JSON.stringify(row);
}

/** Asks until there is an answer; null if there will be none. `failed` is told of each try that was for nothing. */
async function insist(path, signal, failed) {
  for (let tries = 0; !signal.aborted; tries += 1) {
    try {
      return await get(session.token, path, signal);
    } catch (error) {
      if (signal.aborted) return null;
      if (!(error instanceof Problem)) throw error;
      if (error.status === 404 && path.startsWith('/v1/children/')) {
        // It was deleted, or belongs to another family now.
        reload(signal);
        return null;
      }
      if (end(error.status)) return null;
      failed?.(error);
      await new Promise((resolve) => setTimeout(resolve, Math.max(error.after ?? 0, backoff(tries))));
    }
  }
  return null;
}

/** Whether this status is the end: nothing that is asked with this token will be answered. */
function end(status) {
  if (![401, 403, 404].includes(status)) return false;
  ended.abort();
  clearInterval(midnight);
  state.phase = status === 404 ? 'missing' : 'expired';
  state.children = [];
  changed();
  return true;
}

async function loadDays(child, from, to, signal) {
  const answer = await insist(`/v1/children/${child.id}/daily?from=${from}&to=${to}`, signal);
  for (const row of answer?.days ?? []) keep(child, row);
  return answer?.days.length ?? 0;
}

/** Whether all of a period is there; asks for what is not, and says by `changed` when it is. */
export function look(child, period) {
  const { signal } = ended;
  once(child, 'topics', () => loadTopics(child, signal));
  if (state.streaks) once(child, 'streak', () => loadStreak(child, signal));
  const range = period.span === 'all' ? 'all' : `${period.from} ${period.to}`;
  return once(child, range, async () => {
    if (period.span !== 'all') {
      await Promise.all([
        loadDays(child, period.from, period.to, signal),
        loadLearning(child, period, signal),
      ]);
      return;
    }
    // Page by page: at least to the first day that is known of, and on until there is nothing.
    const metrics = [];
    for (let page = pageBefore(period.to); !signal.aborted; page = pageBefore(addDays(page.from, -1))) {
      const [found, learning] = await Promise.all([
        loadDays(child, page.from, page.to, signal),
        insist(learningPath(child, 'monthly', page), signal),
      ]);
      metrics.push(...(learning?.metrics ?? []));
      if (!found && page.from <= (firstDay(child) ?? page.from)) break;
    }
    child.learning.set('all', metrics);
  });
}

/** Whether it was done; does it if not. */
function once(child, what, work) {
  if (!child.asked.has(what)) {
    child.asked.set(what, 'asked');
    work().then(() => {
      if (child.asked.get(what) === 'asked') child.asked.set(what, 'done');
      changed();
    });
  }
  return child.asked.get(what) === 'done';
}

const learningPath = (child, period, { from, to }) =>
  `/v1/children/${child.id}/learning?period=${period}&from=${from}&to=${to}`;

async function loadLearning(child, period, signal) {
  const answer = await insist(learningPath(child, period.learning, period), signal);
  if (answer) child.learning.set(`${period.from} ${period.to}`, answer.metrics);
}

async function loadTopics(child, signal) {
  const answer = await insist(`/v1/children/${child.id}/topics`, signal);
  if (answer) Object.assign(child, { topics: answer.topics, moreTopics: answer.more });
}

async function loadStreak(child, signal) {
  const answer = await insist(`/v1/children/${child.id}/streak`, signal);
  if (answer) Object.assign(child, { streak: answer, streakToday: answer.streak_today });
}

/** The metrics of subjects in a period. */
export const learningOf = (child, period) =>
  child.learning.get(period.span === 'all' ? 'all' : `${period.from} ${period.to}`) ?? [];

let refreshing = null;

/** Topics and subjects of the child that is looked at. The stream has only days and streaks. */
export const looking = { child: null, period: null };

function refreshSoon(child) {
  if (looking.child !== child.id || refreshing) return;
  const { signal } = ended;
  refreshing = setTimeout(async () => {
    const seen = childOf(looking.child);
    if (seen && !signal.aborted) {
      const work = [loadTopics(seen, signal)];
      if (looking.period.span !== 'all') work.push(loadLearning(seen, looking.period, signal));
      await Promise.all(work);
      changed();
    }
    refreshing = null;
  }, REFRESH);
}
