// Days as the API writes them, `2026-05-04`: dates without a time, so without a time zone.

const DAY = 86_400_000;

const ms = (day) => Date.parse(`${day}T00:00:00Z`);
const iso = (time) => new Date(time).toISOString().slice(0, 10);

/** A day as a moment that formats to it in UTC. */
export const asDate = (day) => new Date(ms(day));

export const addDays = (day, count) => iso(ms(day) + count * DAY);

/** Days from one to the other; 0 if they are the same. */
export const between = (from, to) => Math.round((ms(to) - ms(from)) / DAY);

/** 0 is Monday: Rivulet's weeks start there. */
export const weekday = (day) => (asDate(day).getUTCDay() + 6) % 7;

export const monday = (day) => addDays(day, -weekday(day));

export const monthStart = (day) => `${day.slice(0, 7)}-01`;

/** The first of a month that is `count` months from that of `day`. */
export function addMonths(day, count) {
  const date = asDate(monthStart(day));
  date.setUTCMonth(date.getUTCMonth() + count);
  return iso(date);
}

/** The first day of the day, week or month that `day` is in. */
export function startOf(unit, day) {
  if (unit === 'week') return monday(day);
  return unit === 'month' ? monthStart(day) : day;
}

/** The first day after the day, week or month that starts on `start`. */
export function after(unit, start) {
  if (unit === 'month') return addMonths(start, 1);
  return addDays(start, unit === 'week' ? 7 : 1);
}

/** Which day it is in a time zone by this device's clock; null if the browser does not know the zone. */
export function dayIn(timezone, now = new Date()) {
  try {
    const parts = new Intl.DateTimeFormat('en', {
      timeZone: timezone, calendar: 'gregory', numberingSystem: 'latn',
      year: 'numeric', month: '2-digit', day: '2-digit',
    }).formatToParts(now);
    const of = (type) => parts.find((part) => part.type === type).value;
    return `${of('year')}-${of('month')}-${of('day')}`;
  } catch {
    return null;
  }
}
