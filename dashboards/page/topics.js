// What it was about.

import { html, labelOf, none, nothing, whyOf } from './parts.js';
import { state } from './store.js';
import * as format from './format.js';
import * as text from './text.js';

/** Topics that are listed before somebody asks for all. */
const FEW = 8;

const opened = new Set();

export function topicsCard(child, changed) {
  const { topics } = child;
  const all = opened.has(child.id);
  const toggle = () => {
    if (all) opened.delete(child.id);
    else opened.add(child.id);
    changed();
  };
  return html`<section class="card topics">
    <h2>${text.topics.title} ${whyOf('topics')}</h2>
    ${!topics ? html`<p class="nothing">${text.page.loading}</p>` : topics.length === 0 ? html`<p class="nothing">${text.topics.nothing}</p>` : html`
      <table role="table">
        <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">${text.topics.topic}</th>
          ${COLUMNS.map((key) => html`<th role="columnheader" scope="col" class="n">${labelOf(key)}</th>`)}
          <th role="columnheader" scope="col" class="n">${text.topics.last}</th></tr></thead>
        <tbody role="rowgroup">${(all ? topics : topics.slice(0, FEW)).map(line)}</tbody>
      </table>
      ${topics.length > FEW ? html`<button type="button" class="secondary" aria-expanded=${all ? 'true' : 'false'} @click=${toggle}>${
        all ? text.topics.fewer : text.topics.all(format.number(topics.length))}</button>` : nothing}
      ${all && child.moreTopics ? html`<p class="note">${text.topics.more}</p>` : nothing}`}
  </section>`;
}

const line = (topic) => html`<tr role="row">
  <th role="rowheader" scope="row" class="named"><bdi>${format.name(topic.topic)}</bdi></th>
  ${COLUMNS.map((key) => html`<td role="cell" class="n" data-label=${text.numbers[key][0]}>${VALUES[key](topic)}</td>`)}
  <td role="cell" class="n" data-label=${text.topics.last}>${format.dateOf(topic.last_seen_at, state.timezone)}</td>
</tr>`;

const VALUES = {
  answers: (topic) => (topic.answers ? text.subjects.of(format.number(topic.correct_answers), format.number(topic.answers)) : none()),
  known: (topic) => (topic.mastery_score == null ? none() : format.number(Math.round(topic.mastery_score))),
  conversations: (topic) => format.number(topic.conversations),
  questions: (topic) => format.number(topic.questions_asked),
  depth: (topic) => (topic.max_depth == null ? none() : format.number(topic.max_depth)),
};

const COLUMNS = Object.keys(VALUES);
