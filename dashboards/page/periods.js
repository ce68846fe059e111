// The stretches of time that a parent looks back on.

import { addDays, addMonths, between, monday, monthStart } from './days.js';

/** Days that one request may ask for. */
export const LONGEST = 366;

const SPANS = {
  // Whole weeks and months, so that each bar and each row of a subject lies in one of them.
  month: { unit: 'day', learning: 'weekly', start: (today, back) => addDays(monday(today), -21 - 28 * back), end: (start) => addDays(start, 27) },
  quarter: { unit: 'week', learning: 'weekly', start: (today, back) => addDays(monday(today), -84 - 91 * back), end: (start) => addDays(start, 90) },
  year: { unit: 'month', learning: 'monthly', start: (today, back) => addMonths(today, -11 - 12 * back), end: (start) => addDays(addMonths(start, 12), -1) },
};

export const spans = [...Object.keys(SPANS), 'all'];

/**
 * `{span, back, from, to, unit, learning}`: `back` spans before the one that `today` is in. The span `all`
 * begins with `first`, the child's first day.
 */
export function periodOf(span, back, today, first) {
  if (span === 'all') {
    return { span, back: 0, from: monthStart(first ?? today), to: today, unit: 'month', learning: 'monthly' };
  }
  const { unit, learning, start, end } = SPANS[span];
  const from = start(today, back);
  const to = end(from);
  return { span, back, from, to: to < today ? to : today, unit, learning };
}

/** Of a year, or of whole months that are one at most, going back from the month of `to`. */
export const pageBefore = (to) => ({ from: addMonths(to, -11), to });

/** Whether it is too long for one request. */
export const isLong = (period) => between(period.from, period.to) >= LONGEST;
