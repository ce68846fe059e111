// What it was about.

import { firstOf, html, labelOf, none, nothing, whyOf } from './parts.js';
import { moreTopics, state } from './store.js';
import * as format from './format.js';
import * as text from './text.js';

/** Topics that are listed before somebody asks for more. */
const FEW = 8;

export function topicsCard(child, changed) {
  const { topics } = child;
  return html`<section class="card topics">
    <h2>${text.topics.title} ${whyOf('topics')}</h2>
    ${!topics ? html`<p class="nothing">${text.page.loading}</p>`
      : topics.length === 0 ? html`<p class="nothing">${text.topics.nothing}</p>` : table(child, changed)}
  </section>`;
}

function table(child, changed) {
  const { topics, allTopics: all, nextTopics: next } = child;
  const count = format.number(topics.length);
  const label = !next ? undefined : all == null ? text.lists.some(count) : text.lists.first(count, format.number(all));
  const { shown, isOpen, more } = firstOf(topics, { list: `topics of ${child.id}`, few: FEW, label, changed });
  return html`
    ${all == null ? html`<p class="note">${text.topics.many}</p>` : nothing}
    <table role="table">
      <thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">${text.topics.topic}</th>
        ${COLUMNS.map((key) => html`<th role="columnheader" scope="col" class="n">${labelOf(key)}</th>`)}
        <th role="columnheader" scope="col" class="n">${text.topics.last}</th></tr></thead>
      <tbody role="rowgroup">${shown.map(line)}</tbody>
    </table>
    ${isOpen && next ? html`<button type="button" class="secondary" @click=${() => moreTopics(child)}>${text.topics.next}</button>` : nothing}
    ${more}
    ${isOpen && next && all != null ? html`<p class="note">${text.topics.some(count, format.number(all))}</p>` : nothing}`;
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
