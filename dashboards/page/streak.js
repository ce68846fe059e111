// Days in a row, with their calendar and freezes.

import { html, facts, nothing } from './parts.js';
import { addDays, addMonths, monday, monthStart } from './days.js';
import { streakDays } from './numbers.js';
import { state } from './store.js';
import * as format from './format.js';
import * as text from './text.js';

/** Months back that the calendar of a child shows. */
const shown = new Map();

export function streakCard(child, changed) {
  const { streak } = child;
  if (!streak) return html`<section class="card"><h2>${text.streak.title}</h2><p class="nothing">${text.page.loading}</p></section>`;
  const { active, bridged, holding } = streakDays(streak, state.today);
  const running = streak.streak_today > 0;
  return html`<section class="card streak">
    <h2>${text.streak.title}</h2>
    ${facts([
      ['streak', format.number(streak.streak_today), text.streak.days(streak.streak_today)],
      ['longest', format.number(streak.longest_streak), text.streak.days(streak.longest_streak)],
      ['freezes', text.streak.freezes(format.number(streak.freezes_available))],
    ], 'three')}
    <p class="note">${running
      ? html`${text.streak.since(format.day.year(streak.streak_started_on))}. ${holding ? text.streak.holding(holding) : nothing}`
      : text.streak.none}</p>
    ${calendar(child, active, bridged, changed)}
  </section>`;
}

function calendar(child, active, bridged, changed) {
  const back = shown.get(child.id) ?? 0;
  const month = addMonths(state.today, -back);
  const end = addDays(addMonths(month, 1), -1);
  const first = child.streak.active_days[0]?.from ?? state.today;
  const weeks = [];
  for (let week = monday(month); week <= end; week = addDays(week, 7)) {
    weeks.push([...Array(7).keys()].map((index) => addDays(week, index)));
  }
  const turn = (by) => () => {
    shown.set(child.id, back + by);
    changed();
  };
  const name = format.day.month(month);
  return html`<div class="calendar">
    <div class="turn">
      <button type="button" class="quiet" aria-label=${text.streak.earlier} ?disabled=${month <= monthStart(first)}
        @click=${turn(1)}><span aria-hidden="true">‹</span></button>
      <p aria-live="polite">${name}</p>
      <button type="button" class="quiet" aria-label=${text.streak.later} ?disabled=${back === 0}
        @click=${turn(-1)}><span aria-hidden="true">›</span></button>
    </div>
    <table>
      <caption class="hidden">${text.streak.calendar(name)}</caption>
      <thead><tr>${weeks[0].map((day) => html`<th scope="col"><span aria-hidden="true">${format.weekdays.narrow(day)}</span>
        <span class="hidden">${format.weekdays.long(day)}</span></th>`)}</tr></thead>
      <tbody>${weeks.map((week) => html`<tr>${week.map((day) => cell(day, month, end, active, bridged))}</tr>`)}</tbody>
    </table>
    <p class="legend" aria-hidden="true"><span><i class="mark active"></i>${text.streak.active}</span>
      <span><i class="mark bridged"></i>${text.streak.bridged}</span></p>
  </div>`;
}

function cell(day, month, end, active, bridged) {
  if (day < month || day > end) return html`<td></td>`;
  const kind = active.has(day) ? 'active' : bridged.has(day) ? 'bridged' : '';
  const said = [kind && text.streak[kind], day === state.today && text.streak.today].filter(Boolean).join(', ');
  return html`<td><span class="day ${kind} ${day === state.today ? 'today' : ''}">${format.number(Number(day.slice(8)))}</span>${
    said ? html`<span class="hidden">, ${said}</span>` : nothing}</td>`;
}
