// What is reckoned from the rows of the API. No text and nothing of the page.

import { addDays, after, between, startOf } from './days.js';

export const total = (rows, column) => rows.reduce((sum, row) => sum + (row[column] ?? 0), 0);

/** The largest; null where no row has one. */
export const most = (rows, column) => rows.reduce(
  (max, row) => (row[column] == null || (max != null && max >= row[column]) ? max : row[column]),
  null,
);

/** Right answers of all, 0 to 1; null without an answer. */
export const accuracy = (rows) => {
  const answers = total(rows, 'answers');
  return answers ? total(rows, 'correct_answers') / answers : null;
};

/** The rows of these days, both included, oldest first. */
export const within = (rows, from, to) => [...rows.values()]
  .filter((row) => row.local_date >= from && row.local_date <= to)
  .sort((a, b) => (a.local_date < b.local_date ? -1 : 1));

/** The days from `from` to `to` cut into days, weeks or months, each with its rows. */
export function buckets(rows, from, to, unit) {
  const cut = [];
  for (let start = startOf(unit, from); start <= to; start = after(unit, start)) {
    cut.push({ start, end: addDays(after(unit, start), -1), rows: [] });
  }
  let at = 0;
  for (const row of within(rows, from, to)) {
    while (cut[at].end < row.local_date) at += 1;
    cut[at].rows.push(row);
  }
  return cut;
}

/**
 * Rows of `learning_metrics` as one line a subject, most answers first. Ratios are turned back into what
 * they were made of, so that weeks can be added up.
 */
export function subjects(metrics) {
  const lines = new Map();
  for (const { subject, metric_type: type, metric_value: value, sample_count: count } of metrics) {
    const line = lines.get(subject) ?? { subject, answers: 0, correct: 0, minutes: 0 };
    if (type === 'accuracy') {
      line.answers += count;
      line.correct += Math.round(value * count);
    }
    if (type === 'time_spent') line.minutes += value;
    lines.set(subject, line);
  }
  return [...lines.values()]
    .filter((line) => line.answers || line.minutes)
    .sort((a, b) => b.answers - a.answers || b.minutes - a.minutes);
}

/**
 * The days of a streak: `active` ones, and `bridged` ones that were missed and that a freeze keeps, by
 * rule 1 of docs/rollups.md. `holding` is how many freezes keep days since the last active one; they are
 * used when the child is back.
 */
export function streakDays(streak, today) {
  const active = new Set();
  const bridged = new Set();
  let run = 0;
  let freezes = 0;
  let last = null;
  for (const range of streak.active_days ?? []) {
    for (let day = range.from; day <= range.to && day <= today; day = addDays(day, 1)) {
      const gap = last ? between(last, day) - 1 : 0;
      if (gap <= freezes) {
        for (let missed = 1; missed <= gap; missed += 1) bridged.add(addDays(last, missed));
        freezes -= gap;
        run += 1;
      } else {
        run = 1;
      }
      if (run % 7 === 0) freezes = Math.min(2, freezes + 1);
      active.add(day);
      last = day;
    }
  }
  let holding = 0;
  if (last && streak.streak_today > 0) {
    for (let day = addDays(last, 1); day < today; day = addDays(day, 1)) {
      bridged.add(day);
      holding += 1;
    }
  }
  // A rule that this page does not know may bridge otherwise.
  if (streak.rule_version !== 1) return { active, bridged: new Set(), holding: 0 };
  return { active, bridged, holding };
}
