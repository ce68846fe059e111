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
      <div class="scroll" tabindex="0" role="region" aria-label=${text.topics.title}><table>
        <thead><tr><th scope="col">${text.topics.topic}</th>
          <th scope="col" class="n">${labelOf('answers')}</th>
          <th scope="col" class="n">${labelOf('known')}</th>
          <th scope="col" class="n">${labelOf('conversations')}</th>
          <th scope="col" class="n">${labelOf('questions')}</th>
          <th scope="col" class="n">${labelOf('depth')}</th>
          <th scope="col" class="n">${text.topics.last}</th></tr></thead>
        <tbody>${(all ? topics : topics.slice(0, FEW)).map(line)}</tbody>
      </table></div>
      ${topics.length > FEW ? html`<button type="button" class="secondary" aria-expanded=${all ? 'true' : 'false'} @click=${toggle}>${
        all ? text.topics.fewer : text.topics.all(format.number(topics.length))}</button>` : nothing}
      ${all && child.moreTopics ? html`<p class="note">${text.topics.more}</p>` : nothing}`}
  </section>`;
}

const line = (topic) => html`<tr>
  <th scope="row">${format.name(topic.topic)}</th>
  <td class="n">${topic.answers ? text.subjects.of(format.number(topic.correct_answers), format.number(topic.answers)) : none()}</td>
  <td class="n">${topic.mastery_score == null ? none() : format.number(Math.round(topic.mastery_score))}</td>
  <td class="n">${format.number(topic.conversations)}</td>
  <td class="n">${format.number(topic.questions_asked)}</td>
  <td class="n">${topic.max_depth == null ? none() : format.number(topic.max_depth)}</td>
  <td class="n">${format.dateOf(topic.last_seen_at, state.timezone)}</td>
</tr>`;
