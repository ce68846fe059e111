// The children side by side. Every card has a scale of its own: they are not compared with each other.

import { avatar, facts, html, nameOf, none, renameButton, svg } from './parts.js';
import { addDays, monday } from './days.js';
import { accuracy, total, within } from './numbers.js';
import { noChildren } from './states.js';
import { state } from './store.js';
import * as format from './format.js';
import * as text from './text.js';

export const familyView = (changed) => html`<main id="main" class="family" tabindex="-1">
  <h1 tabindex="-1">${format.day.long(state.today)}</h1>
  ${state.children.length === 0 ? noChildren() : html`<ul class="children">
    ${state.children.map((child) => html`<li class="card">${card(child, changed)}</li>`)}
  </ul>`}
</main>`;

function card(child, changed) {
  const name = nameOf(child);
  const row = child.rows.get(state.today);
  const start = monday(state.today);
  const week = within(child.rows, start, state.today);
  return html`
    <div class="who">${avatar(child)}
      <div><h2 class="named">${name}</h2><p class="age">${text.ages[child.age] ?? ''}</p></div>
      ${renameButton(child, changed)}
    </div>
    <section aria-label="${name}: ${text.child.today}">
      <h3>${text.child.today}</h3>
      ${row ? facts([
        ['time', format.duration(row.active_ms)],
        ['answers', format.number(row.answers)],
        ['questions', format.number(row.questions_asked)],
        ['spoken', format.number(row.child_words)],
      ]) : html`<p class="nothing">${text.child.nothingToday}</p>`}
    </section>
    <section aria-label="${name}: ${text.child.week}">
      <h3>${text.child.week}</h3>
      ${weekBars(child, start, name)}
      ${week.length ? facts([
        ['time', format.duration(total(week, 'active_ms'))],
        ['days', format.number(week.filter((day) => day.qualifying_events > 0).length)],
        ['accuracy', share(week)],
        ...(state.streaks && child.streakToday > 0
          ? [['streak', format.number(child.streakToday), text.streak.days(child.streakToday)]] : []),
      ]) : html`<p class="nothing">${text.child.nothingWeek}</p>`}
    </section>
    <a class="more" href="#child=${child.id}" aria-label=${text.child.moreAbout(name)}>${text.child.more}
      <span aria-hidden="true">›</span></a>`;
}

const share = (rows) => {
  const part = accuracy(rows);
  return part == null ? none() : format.percent(part);
};

function weekBars(child, start, name) {
  const days = [...Array(7).keys()].map((index) => addDays(start, index));
  const times = days.map((day) => child.rows.get(day)?.active_ms ?? 0);
  const most = Math.max(...times, 1);
  const told = days.filter((day) => day <= state.today)
    .map((day, index) => `${format.weekdays.long(day)} ${times[index] ? format.duration(times[index]) : text.child.none}`);
  return html`<div class="week" role="img" aria-label="${text.child.weekBars(name)}: ${told.join(', ')}">
    ${days.map((day, index) => html`<div class=${day === state.today ? 'now' : day > state.today ? 'ahead' : ''}>
      <svg viewBox="0 0 10 44" preserveAspectRatio="none" aria-hidden="true">${bar(times[index] / most)}</svg>
      <span>${format.weekdays.narrow(day)}</span>
    </div>`)}
  </div>`;
}

const bar = (part) => {
  const height = part ? Math.max(4, 44 * part) : 2;
  return svg`<rect x="0" y=${44 - height} width="10" height=${height} class=${part ? '' : 'empty'}></rect>`;
};
