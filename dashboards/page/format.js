// Numbers and dates as the family writes them: by the browser's languages, and in the family's time zone.

import { addDays, asDate } from './days.js';
import { language } from './text.js';

const locale = [...(navigator.languages ?? [])];
const utc = (options) => new Intl.DateTimeFormat(locale, { timeZone: 'UTC', ...options });

const plain = new Intl.NumberFormat(locale);
const short = new Intl.NumberFormat(locale, { notation: 'compact' });
const share = new Intl.NumberFormat(locale, { style: 'percent', maximumFractionDigits: 0 });
const minutes = new Intl.NumberFormat(locale, { style: 'unit', unit: 'minute', maximumFractionDigits: 0 });
const narrowMinutes = new Intl.NumberFormat(locale, { style: 'unit', unit: 'minute', unitDisplay: 'narrow' });
const narrowHours = new Intl.NumberFormat(locale, { style: 'unit', unit: 'hour', unitDisplay: 'narrow' });
const hours = new Intl.NumberFormat(locale, { style: 'unit', unit: 'hour', maximumFractionDigits: 0 });
const longDay = utc({ weekday: 'long', day: 'numeric', month: 'long' });
const someDay = utc({ weekday: 'short', day: 'numeric', month: 'short' });
const shortDay = utc({ day: 'numeric', month: 'short' });
const dayOfYear = utc({ day: 'numeric', month: 'short', year: 'numeric' });
const monthOfYear = utc({ month: 'long', year: 'numeric' });
const shortMonth = utc({ month: 'short' });
const narrowWeekday = utc({ weekday: 'narrow' });
const longWeekday = utc({ weekday: 'long' });

const RIGHT_TO_LEFT = new Set(['Adlm', 'Arab', 'Hebr', 'Nkoo', 'Rohg', 'Syrc', 'Thaa']);

/** `ltr` or `rtl`, by the script that a language is written in. */
export const directionOf = (tag) => (RIGHT_TO_LEFT.has(new Intl.Locale(tag).maximize().script) ? 'rtl' : 'ltr');

// A date that runs against the words around it is kept together (U+2068 to U+2069), or its parts would change places.
const runsAgainst = directionOf(plain.resolvedOptions().locale) !== directionOf(language);
const whole = (text) => (runsAgainst ? `\u2068${text}\u2069` : text);

export const number = (value) => plain.format(value);
export const compact = (value) => short.format(value);
export const percent = (value) => share.format(value);
export const weekdays = {
  narrow: (day) => narrowWeekday.format(asDate(day)),
  long: (day) => longWeekday.format(asDate(day)),
};

/** `24 min`, `2 hr`, `2h 13m`; a time above 0 is at least a minute. */
export function duration(ms) {
  const all = ms > 0 ? Math.max(1, Math.round(ms / 60_000)) : 0;
  if (all < 60) return whole(minutes.format(all));
  const rest = all % 60;
  const full = (all - rest) / 60;
  return whole(rest ? `${narrowHours.format(full)} ${narrowMinutes.format(rest)}` : hours.format(full));
}

export const day = {
  long: (value) => whole(longDay.format(asDate(value))),
  medium: (value) => whole(someDay.format(asDate(value))),
  short: (value) => whole(shortDay.format(asDate(value))),
  year: (value) => whole(dayOfYear.format(asDate(value))),
  month: (value) => whole(monthOfYear.format(asDate(value))),
  shortMonth: (value) => whole(shortMonth.format(asDate(value))),
  range: (from, to) => whole(dayOfYear.formatRange(asDate(from), asDate(to))),
};

/** A bucket of a chart: a day, week or month. */
export function bucket(unit, start) {
  if (unit === 'day') return day.medium(start);
  return unit === 'week' ? day.range(start, addDays(start, 6)) : day.month(start);
}

/** A moment as the clock of the family's wall, or of this device where the browser does not know the zone. */
function inZone(timezone, options) {
  try {
    return new Intl.DateTimeFormat(locale, { ...options, timeZone: timezone });
  } catch {
    return new Intl.DateTimeFormat(locale, options);
  }
}

export const time = (moment, timezone) =>
  whole(inZone(timezone, { hour: 'numeric', minute: '2-digit' }).format(new Date(moment)));

export const dateOf = (moment, timezone) =>
  whole(inZone(timezone, { day: 'numeric', month: 'short', year: 'numeric' }).format(new Date(moment)));

/** `Europe/Rome` as the browser names it, or the city. */
export function zone(timezone) {
  try {
    const format = new Intl.DateTimeFormat(locale, { timeZone: timezone, timeZoneName: 'longGeneric' });
    return whole(format.formatToParts(new Date()).find((part) => part.type === 'timeZoneName').value);
  } catch {
    return timezone.split('/').at(-1).replaceAll('_', ' ');
  }
}

/** What the app named for machines, `bee-friend`, as people write it; other names stay. */
export function name(text) {
  const words = /^[\p{Ll}\d]+([-_][\p{Ll}\d]+)*$/u.test(text) ? text.replaceAll(/[-_]/g, ' ') : text;
  return words.charAt(0).toLocaleUpperCase(locale) + words.slice(1);
}
