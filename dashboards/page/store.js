// What is known of the family, and how it is got: asked for once, then kept true by the live stream.

import { Problem, backoff, get } from './api.js';
import { addDays, dayIn } from './days.js';
import { follow, rowAfter } from './live.js';
import { pageBefore } from './periods.js';

/** The least time between two looks at what the live stream does not bring, ms; as often longer as it has pages. */
const REFRESH = 2_000;

/** Answers that are asked for in a row, at most. All but very few children need one. */
const PAGES = { children: 10, days: 40, learning: 24 };

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
  const family = await askForFamily((path) => insist(path, signal, (problem) => {
    Object.assign(state, { phase: 'failed', problem });
    changed();
  }));
  if (!family) return;
  take(family);
  changed();
  // Two at a time: the service answers no more to one parent at once.
  const rest = [...state.children];
  const some = async () => {
    for (let child = rest.shift(); child; child = rest.shift()) {
      await loadDays(child, addDays(state.today, -30), state.today, signal);
    }
  };
  await Promise.all([some(), some()]);
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

/** The family with all of its children; null without an answer. */
async function askForFamily(ask) {
  let family = null;
  const { answered } = await pages(familyPath(), PAGES.children, ask, (page) => {
    family = { ...page, children: [...(family?.children ?? []), ...page.children] };
  });
  return answered ? family : null;
}

/**
 * Asks for one page after another, `most` at most, and hands each to `take`. Whether there was an `answer` to
 * all of them, and whether they are the `whole`.
 */
async function pages(path, most, ask, take) {
  let next = null;
  for (let page = 0; page < most; page += 1) {
    const answer = await ask(next ? `${path}${path.includes('?') ? '&' : '?'}after=${next}` : path);
    if (!answer) return { answered: false, whole: false };
    take(answer);
    next = answer.next ?? null;
    if (!next) return { answered: true, whole: true };
  }
  return { answered: true, whole: false };
}

/** What the stream has told of a streak since this was `asked` for is newer, and is not told again. */
function take(family, asked) {
  const known = new Map(state.children.map((child) => [child.id, child]));
  // The same object as before: answers that are still on their way are put into it.
  const children = family.children.map((entry, index) => {
    const child = known.get(entry.child_id)
      ?? {
        rows: new Map(), isCut: false, streak: null, topics: null, topicOrder: 'latest', allTopics: null,
        nextTopics: null, learning: new Map(), asked: new Map(),
      };
    return Object.assign(child, {
      id: entry.child_id, age: entry.age_group, number: index + 1,
      streakToday: child.streakToldAt > asked ? child.streakToday : entry.streak_today,
    });
  });
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
  const asked = performance.now();
  try {
    const family = await askForFamily((path) => get(session.token, path, signal));
    if (family.today !== state.today || family.timezone !== state.timezone) for (const child of state.children) child.asked.clear();
    take(family, asked);
    changed();
  } catch (error) {
    // If nobody answered, the next tick asks again.
    if (error instanceof Problem) end(error.status);
  }
}

/**
 * What the stream brings: days that changed, or what of them did, days without events, and the streak if it did.
 * Whether that fits to what is here.
 */
function update({ child_id: id, today, timezone, days, empty = [], streak }) {
  const child = childOf(id);
  const isSwitched = streak !== undefined && Boolean(streak) !== state.streaks;
  // A child that is new here, another day, a move, streaks switched on or off: the family says how it is now.
  if (!child || today > state.today || timezone !== state.timezone || isSwitched) reload(ended.signal);
  if (!child) return true;
  const rows = days.map((day) => rowAfter(child.rows.get(day.local_date), day));
  if (rows.includes(null)) return false;
  const fresh = rows.filter((row) => keep(child, row, true));
  const gone = empty.filter((day) => child.rows.delete(day));
  if (streak) Object.assign(child, { streak, streakToday: streak.streak_today, streakToldAt: performance.now() });
  state.asOf = new Date();
  if (fresh.length || gone.length) refreshSoon(child);
  changed({ child, days: fresh });
  return true;
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

/** How many days there are. */
async function loadDays(child, from, to, signal) {
  let found = 0;
  const path = `/v1/children/${child.id}/daily?from=${from}&to=${to}`;
  const { answered, whole } = await pages(path, PAGES.days, (page) => insist(page, signal), ({ days }) => {
    for (const row of days) keep(child, row);
    found += days.length;
  });
  if (answered && !whole) child.isCut = true;
  return found;
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
    // Year by year: at least to the first day that is known of, and on until there is nothing.
    const all = { metrics: [], whole: true };
    for (let page = pageBefore(period.to); !signal.aborted; page = pageBefore(addDays(page.from, -1))) {
      const [found, learning] = await Promise.all([
        loadDays(child, page.from, page.to, signal),
        askForLearning(child, 'monthly', page, signal),
      ]);
      all.metrics.push(...learning.metrics);
      all.whole &&= learning.whole;
      if (!found && page.from <= (firstDay(child) ?? page.from)) break;
    }
    child.learning.set('all', all);
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

/** The metrics of a period's subjects; where they are not the whole, those of its first part, until `until`. */
async function askForLearning(child, period, { from, to }, signal) {
  const path = `/v1/children/${child.id}/learning?period=${period}&from=${from}&to=${to}`;
  const metrics = [];
  const { answered, whole } = await pages(path, PAGES.learning, (page) => insist(page, signal), (page) => {
    for (const metric of page.metrics) metrics.push(metric);
  });
  if (whole || !metrics.length) return { answered, metrics, whole };
  // The last week or month may have more subjects than these.
  const last = metrics.at(-1).period_start;
  const before = metrics.filter((metric) => metric.period_start < last);
  return { answered, whole, ...(before.length ? { metrics: before, until: addDays(last, -1) } : { metrics }) };
}

async function loadLearning(child, period, signal) {
  const learning = await askForLearning(child, period.learning, period, signal);
  if (learning.answered) child.learning.set(`${period.from} ${period.to}`, learning);
}

/** The first topics as they are now. Those after them that somebody asked for stay. */
async function loadTopics(child, signal) {
  const answer = await insist(`/v1/children/${child.id}/topics`, signal);
  if (!answer) return;
  const { topics, order = 'latest', total = null, next = null } = answer;
  const had = order === child.topicOrder && child.topics?.length > topics.length ? child.topics : [];
  const fresh = new Set(topics.map((topic) => topic.topic));
  Object.assign(child, {
    topics: [...topics, ...had.filter((topic) => !fresh.has(topic.topic))],
    topicOrder: order,
    allTopics: total,
    nextTopics: had.length ? child.nextTopics : next,
  });
}

/** Asks for the topics after those that are there, once somebody wants them. */
export async function moreTopics(child) {
  const { signal } = ended;
  const after = child.nextTopics;
  if (!after || child.asked.get('more topics') === after) return;
  child.asked.set('more topics', after);
  try {
    const answer = await get(session.token, `/v1/children/${child.id}/topics?after=${after}`, signal);
    const known = new Set(child.topics.map((topic) => topic.topic));
    child.topics.push(...answer.topics.filter((topic) => !known.has(topic.topic)));
    child.nextTopics = answer.next ?? null;
  } catch (error) {
    if (!(error instanceof Problem)) return;
    child.asked.delete('more topics');
    // The order is another by now, so the topics that are there are of no use.
    if (error.status === 400) {
      child.topics = null;
      await loadTopics(child, signal);
    } else end(error.status);
  }
  changed();
}

async function loadStreak(child, signal) {
  const asked = performance.now();
  const answer = await insist(`/v1/children/${child.id}/streak`, signal);
  if (answer && !(child.streakToldAt > asked)) Object.assign(child, { streak: answer, streakToday: answer.streak_today });
}

/** The metrics of subjects in a period: `{metrics, whole, until}`. */
export const learningOf = (child, period) =>
  child.learning.get(period.span === 'all' ? 'all' : `${period.from} ${period.to}`) ?? { metrics: [], whole: true };

let refreshing = null;

/** Topics and subjects of the child that is looked at. The stream has only days and streaks. */
export const looking = { child: null, period: null };

function refreshSoon(child) {
  if (looking.child !== child.id || refreshing) return;
  const { signal } = ended;
  // What takes many answers is asked for less often.
  const length = learningOf(child, looking.period).metrics.length;
  refreshing = setTimeout(async () => {
    const seen = childOf(looking.child);
    if (seen && !signal.aborted) {
      const work = [loadTopics(seen, signal)];
      if (looking.period.span !== 'all') work.push(loadLearning(seen, looking.period, signal));
      await Promise.all(work);
      changed();
    }
    refreshing = null;
  }, REFRESH * (1 + Math.floor(length / 2_000)));
}
