// What there is instead of numbers: the way in, and everything that can be in the way.

import { html, icon, nothing } from './parts.js';
import * as text from './text.js';
import { sessionOf } from './session.js';

const calm = (title, body, more = nothing) => html`<main id="main" class="calm" tabindex="-1">
  <img src=${icon} alt="" width="56" height="56">
  <h1 tabindex="-1">${title}</h1>
  <p>${body}</p>
  ${more}
</main>`;

export function signIn(wrong, enter) {
  const { title, body, developer, field, hint, open, wrong: mistake } = text.states.signIn;
  const submit = (event) => {
    event.preventDefault();
    const input = event.currentTarget.elements.token;
    enter(sessionOf(input.value) ? input.value.trim() : null);
    if (!sessionOf(input.value)) input.focus();
  };
  return calm(title, body, html`<details ?open=${wrong}>
    <summary>${developer}</summary>
    <form @submit=${submit} novalidate>
      <label for="token">${field}</label>
      <input id="token" name="token" autocomplete="off" spellcheck="false" autocapitalize="off"
        aria-describedby="token-hint" aria-invalid=${wrong ? 'true' : 'false'}>
      <p id="token-hint" class="hint">${wrong ? html`<strong>${mistake}</strong> ` : nothing}${hint}</p>
      <button class="primary">${open}</button>
    </form>
  </details>`);
}

export const expired = () => calm(text.states.expired.title, text.states.expired.body);

export const missing = () => calm(text.states.missing.title, text.states.missing.body);

export const failed = (problem) => calm(
  text.states.failed.title,
  problem.status === 0 ? text.states.failed.offline : text.states.failed.unavailable,
);

export const noChildren = () => html`<div class="card nothing">
  <h2>${text.states.noChildren.title}</h2><p>${text.states.noChildren.body}</p>
</div>`;

/** Before the first answer: the shape of what will be there. */
export const loading = () => html`<main id="main" class="waiting" tabindex="-1" aria-busy="true">
  <p>${text.page.loading}</p>
</main>`;
