// One child: today, the week, the days in a row, and looking back.

import { avatar, facts, firstOf, html, labelOf, nameOf, none, nothing, renameButton, whyOf } from './parts.js';
import { chart } from './charts.js';
import { addDays, monday, weekday } from './days.js';
import { accuracy, buckets, most, subjects, total, within } from './numbers.js';
import { periodOf, spans } from './periods.js';
import { childOf, firstDay, learningOf, look, looking, state } from './store.js';
import { streakCard } from './streak.js';
import { topicsCard } from './topics.js';
import * as format from './format.js';
import * as text from './text.js';

/** Names that are listed of a day, and lines of other lists before somebody asks for more, and then. */
const NAMES = 5;
const LINES = { few: 12, most: 200 };

/** `route` is `{child, span, back}`; `go` takes another, `changed` draws again. */
export function childView(route, go, changed) {
  const child = childOf(route.child);
  if (!child) {
    return html`<main id="main" class="child" tabindex="-1"><h1 tabindex="-1">${text.states.noChild}</h1>
      <p><a href="#">${text.page.family}</a></p></main>`;
  }
  const period = periodOf(route.span, route.back, state.today, firstDay(child));
  Object.assign(looking, { child: child.id, period });
  const ready = look(child, period);
  const first = firstDay(child);
  const isNew = ready && child.topics && !first;
  return html`<main id="main" class="child" tabindex="-1">
    ${head(child, changed)}
    ${isNew ? html`<div class="card nothing"><h2>${text.child.empty(nameOf(child))}</h2><p>${text.child.emptyBody}</p></div>` : html`
      ${todayCard(child)}
      <div class="pair">
        ${weekCard(child)}
        ${state.streaks ? streakCard(child, changed) : nothing}
      </div>
      ${lookingBack(child, period, ready, first, go, changed)}
      ${topicsCard(child, changed)}`}
  </main>`;
}

const head = (child, changed) => html`<div class="head">
  <nav aria-label=${text.child.others}>
    <a href="#">${text.page.family}</a>
    ${state.children.length > 1 ? state.children.map((other) => html`<a class="named" href="#child=${other.id}"
      aria-current=${other === child ? 'page' : nothing}>${nameOf(other)}</a>`) : nothing}
  </nav>
  <div class="who">${avatar(child)}
    <div><h1 class="named" tabindex="-1">${nameOf(child)}</h1><p class="age">${text.ages[child.age] ?? ''}</p></div>
    ${renameButton(child, changed)}
  </div>
</div>`;

function todayCard(child) {
  const row = child.rows.get(state.today);
  return html`<section class="card today">
    <div class="title"><h2>${text.child.today}</h2>
      ${row ? html`<p class="note">${text.child.last(format.time(row.last_event_at, state.timezone))}</p>` : nothing}</div>
    ${row ? facts([
      ['time', format.duration(row.active_ms)],
      ['answers', format.number(row.answers)],
      ['accuracy', shareOf([row])],
      ['completions', format.number(row.completions)],
      ['questions', format.number(row.questions_asked)],
      ['depth', row.max_depth == null ? none() : format.number(row.max_depth)],
      ['spoken', format.number(row.child_words)],
      ['heard', format.number(row.adult_words)],
    ], 'large') : html`<p class="nothing">${text.child.nothingToday}</p>`}
    ${row?.topics?.length ? about(row) : nothing}
  </section>`;
}

/** What a day was about, as far as a line holds it. */
function about({ topics, topics_more: more }) {
  const left = topics.length - NAMES;
  return html`<p class="about named"><span class="label">${labelOf('about')}</span>
    ${topics.slice(0, NAMES).map((topic) => html`<bdi>${format.name(topic)}</bdi> `)}
    ${more ? html`<span>${text.lists.orMore(format.number(Math.max(left, 0)))}</span>`
      : left > 0 ? html`<span>${text.lists.others(left, format.number(left))}</span>` : nothing}</p>`;
}

const shareOf = (rows) => {
  const part = accuracy(rows);
  return part == null ? none() : format.percent(part);
};

/** This week beside as much of last week, so that a Tuesday is not held against a whole week. */
function weekCard(child) {
  const start = monday(state.today);
  const ago = addDays(start, -7);
  const columns = [
    within(child.rows, start, state.today),
    within(child.rows, ago, addDays(state.today, -7)),
    within(child.rows, ago, addDays(ago, 6)),
  ];
  const sum = (column) => (rows) => format.number(total(rows, column));
  const lines = [
    ['time', (rows) => format.duration(total(rows, 'active_ms'))],
    ['days', (rows) => format.number(rows.filter((row) => row.qualifying_events > 0).length)],
    ['answers', sum('answers')],
    ['accuracy', shareOf],
    ['completions', sum('completions')],
    ['questions', sum('questions_asked')],
    ['spoken', sum('child_words')],
    ['heard', sum('adult_words')],
  ];
  // On a Sunday the two last columns are one.
  const shown = weekday(state.today) === 6 ? [columns[0], columns[2]] : columns;
  const until = format.weekdays.long(state.today);
  return html`<section class="card">
    <h2>${text.week.title}</h2>
    <table role="table" class="weeks">
      <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col"><span class="hidden">${text.week.measure}</span></th>
        ${column(text.week.now, text.week.upTo(until))}
        ${shown.length === 3 ? column(text.week.then, text.week.upTo(until)) : nothing}
        ${column(text.week.then, text.week.whole)}</tr></thead>
      <tbody role="rowgroup">${lines.map(([key, value]) => html`<tr role="row"><th role="rowheader" scope="row">${labelOf(key)}</th>
        ${shown.map((rows) => html`<td role="cell" class="n">${value(rows)}</td>`)}</tr>`)}</tbody>
    </table>
    <p class="note">${text.week.note}</p>
  </section>`;
}

const column = (week, part) => html`<th role="columnheader" scope="col" class="n">${week}<small>${part}</small></th>`;

/** What was last shown in full: it stays, paler, until what was asked for next is there. */
let shown = {};

function lookingBack(child, asked, ready, first, go, changed) {
  if (ready) shown = { child: child.id, period: asked };
  const stays = !ready && shown.child === child.id;
  const period = stays ? shown.period : asked;
  const rows = within(child.rows, period.from, period.to);
  const step = (by) => go({ child: child.id, span: asked.span, back: asked.back + by });
  const hasEarlier = asked.span !== 'all' && first && asked.from > first;
  return html`<section class="back">
    <div class="bar">
      <h2>${text.periods.title}</h2>
      <fieldset class="spans"><legend class="hidden">${text.periods.choose}</legend>
        ${spans.map((span) => html`<label><input type="radio" name="span" .checked=${span === asked.span}
          @change=${() => go({ child: child.id, span, back: 0 })}><span>${text.periods[span]}</span></label>`)}
      </fieldset>
      <div class="turn">
        <button type="button" class="secondary" ?disabled=${!hasEarlier} @click=${() => step(1)}><span aria-hidden="true">‹ </span>${text.periods.earlier}</button>
        <p aria-live="polite">${format.day.range(asked.from, asked.to)}</p>
        <button type="button" class="secondary" ?disabled=${asked.back === 0} @click=${() => step(-1)}>${text.periods.later}<span aria-hidden="true"> ›</span></button>
      </div>
    </div>
    ${child.isCut ? html`<p class="note">${text.periods.cut}</p>` : nothing}
    ${!ready && !stays ? html`<div class="card nothing" aria-busy="true"><p>${text.periods.loading}</p></div>`
      : rows.length === 0 ? html`<div class="card nothing"><p>${text.periods.nothing}</p></div>`
        : html`<div class="grid ${stays ? 'stays' : ''}" aria-busy=${stays ? 'true' : 'false'}>${stretch(child, period, rows, changed)}</div>`}
  </section>`;
}

function stretch(child, period, rows, changed) {
  const cut = buckets(child.rows, period.from, period.to, period.unit);
  const of = (column) => cut.map((bucket) => total(bucket.rows, column));
  const base = { cut, unit: period.unit, say: format.number, axis: format.compact };
  const talked = rows.some((row) => row.messages_sent || row.messages_received);
  const spoke = rows.some((row) => row.speech_windows);
  return html`
    <section class="card wide">
      ${chart({
        ...base, key: 'time', title: text.charts.time, help: whyOf('time'), say: format.duration, axis: format.duration,
        increments: [1, 5, 15, 30, 60, 120, 300, 600, 1200, 3000, 6000, 12000].map((minutes) => minutes * 60_000),
        series: [{ name: text.numbers.time[0], values: of('active_ms'), tone: 'first' }],
      })}
    </section>
    <section class="card">
      ${chart({
        ...base, key: 'answers', title: text.charts.answers, help: whyOf('answers'),
        series: [
          { name: text.charts.all, values: of('answers'), tone: 'faint' },
          { name: text.charts.right, values: of('correct_answers'), tone: 'first' },
        ],
      })}
      ${facts([
        ['answers', format.number(total(rows, 'answers'))],
        ['accuracy', shareOf(rows)],
        ['hints', format.number(total(rows, 'hints'))],
        ['completions', format.number(total(rows, 'completions'))],
      ], 'four')}
    </section>
    <section class="card">${subjectTable(child, learningOf(child, period), changed)}</section>
    <section class="card">
      <h3>${text.sections.conversations}</h3>
      ${talked ? html`
        ${facts([
          ['conversations', format.number(total(rows, 'conversations_started'))],
          ['messages', format.number(total(rows, 'messages_sent'))],
          ['aha', format.number(total(rows, 'aha_moments'))],
          ['filtered', format.number(total(rows, 'messages_filtered'))],
        ], 'four')}
        ${chart({ ...base, key: 'questions', title: text.charts.questions, help: whyOf('questions'),
          series: [{ name: text.numbers.questions[0], values: of('questions_asked'), tone: 'first' }] })}
        ${chart({ ...base, key: 'depth', title: text.charts.depth, help: whyOf('depth'), sums: false,
          series: [{ name: text.numbers.depth[0], values: cut.map((bucket) => most(bucket.rows, 'max_depth')), tone: 'second' }] })}`
        : html`<p class="nothing">${text.sections.noConversations}</p>`}
    </section>
    <section class="card">
      <h3>${text.sections.words}</h3>
      ${spoke ? html`
        ${facts([
          ['spoken', format.number(total(rows, 'child_words'))],
          ['heard', format.number(total(rows, 'adult_words'))],
          ['turns', format.number(total(rows, 'conversational_turns'))],
          ['newWords', format.number(total(rows, 'new_words'))],
        ], 'four')}
        ${chart({ ...base, key: 'words', title: text.charts.words, help: whyOf('spoken'), side: true,
          series: [
            { name: text.numbers.spoken[0], values: of('child_words'), tone: 'first' },
            { name: text.numbers.heard[0], values: of('adult_words'), tone: 'second' },
          ] })}` : html`<p class="nothing">${text.sections.noWords}</p>`}
      ${badgeList(child, rows, changed)}
    </section>`;
}

function subjectTable(child, { metrics, whole, until }, changed) {
  const lines = subjects(metrics);
  const { shown: few, more } = firstOf(lines, { list: `subjects of ${child.id}`, ...LINES, changed });
  return html`<h3>${text.subjects.title} ${whyOf('subjects')}</h3>
    ${lines.length === 0 ? html`<p class="nothing">${text.subjects.nothing}</p>` : html`<table role="table" class="subjects">
      <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">${text.subjects.subject}</th>
        <th role="columnheader" scope="col">${labelOf('accuracy')}</th>
        <th role="columnheader" scope="col" class="n">${labelOf('taskTime')}</th></tr></thead>
      <tbody role="rowgroup">${few.map(({ subject, answers, correct, minutes }) => html`<tr role="row">
        <th role="rowheader" scope="row" class="named"><bdi>${format.name(subject)}</bdi></th>
        <td role="cell">${answers ? html`<span>${format.percent(correct / answers)} <small>${text.subjects.of(format.number(correct), format.number(answers))}</small></span>
          <svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="all" width="100" height="6"></rect><rect width=${(100 * correct) / answers} height="6"></rect></svg>` : none()}</td>
        <td role="cell" class="n">${format.duration(minutes * 60_000)}</td>
      </tr>`)}</tbody>
    </table>
    ${more}
    ${whole ? nothing : html`<p class="note">${text.subjects.part(until && format.day.year(until))}</p>`}`}`;
}

function badgeList(child, rows, changed) {
  const latest = new Map();
  for (const row of rows) for (const badge of row.badges) latest.set(badge, row.local_date);
  const { shown: few, more } = firstOf([...latest].reverse(), { list: `badges of ${child.id}`, ...LINES, changed });
  return html`<div class="badges">
    <h3>${text.sections.badges} ${whyOf('badges')}</h3>
    ${latest.size ? html`<ul>${few.map(([badge, day]) => html`<li><span class="medal" aria-hidden="true">✦</span>
      <span class="named"><bdi>${format.name(badge)}</bdi><small>${format.day.year(day)}</small></span></li>`)}</ul>
      ${more}
      ${rows.some((row) => row.badges_more) ? html`<p class="note">${text.sections.moreBadges}</p>` : nothing}`
      : html`<p class="nothing">${text.sections.noBadges}</p>`}
    ${facts([
      ['stars', format.number(total(rows, 'stars'))],
      ['xp', format.number(total(rows, 'xp'))],
    ], 'four')}
  </div>`;
}
