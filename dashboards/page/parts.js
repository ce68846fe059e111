// Small parts that every view is made of.

import { html, nothing, svg } from './vendor/lit-html/lit-html.js';
import * as format from './format.js';
import * as text from './text.js';
import { keepNickname, nickname } from './session.js';

export { html, nothing, svg };

/** Beside this script, and so of the same release. */
export const icon = new URL('icon.svg', import.meta.url).pathname;

export const nameOf = (child) => nickname(child.id) || text.child.unnamed(child.number);

/** The button that says what a number means. */
export const whyOf = (key) => {
  const [label, meaning] = text.numbers[key];
  return html`<button type="button" class="why" aria-label=${text.why.ask(label)} aria-haspopup="dialog"
    @click=${(event) => explain(event.currentTarget, label, meaning)}><span aria-hidden="true">?</span></button>`;
};

/** Where there is no number. */
export const none = () => html`<span aria-hidden="true">–</span><span class="hidden">${text.child.none}</span>`;

/** A number's name and its button, which never stands alone on a line. */
export const labelOf = (key) => {
  const words = text.numbers[key][0].split(' ');
  const last = words.pop();
  return html`${words.join(' ')} <span class="together">${last} ${whyOf(key)}</span>`;
};

/** A number with its name: `facts([['time', '5 min'], …])`. */
export const facts = (entries, style = '') => html`<dl class="facts ${style}">
  ${entries.map(([key, value, note]) => html`<div>
    <dt>${labelOf(key)}</dt>
    <dd>${value}${note ? html` <small>${note}</small>` : nothing}</dd>
  </div>`)}
</dl>`;

const opened = new Set();

/**
 * The first of many: `shown`, `few` of them until somebody asks for more, then `most`; and `more`, the button for
 * that (`label`, or how many there are) and how many are left. `list` tells this list from others, `changed`
 * draws again.
 */
export function firstOf(items, { list, few, most = Infinity, label, changed }) {
  const isOpen = opened.has(list);
  const shown = items.slice(0, isOpen ? most : few);
  const toggle = () => {
    if (isOpen) opened.delete(list);
    else opened.add(list);
    changed();
  };
  const all = Math.min(items.length, most);
  const ask = label ?? (all < items.length
    ? text.lists.first(format.number(all), format.number(items.length)) : text.lists.all(format.number(all)));
  return {
    shown,
    isOpen,
    more: html`
      ${items.length > few ? html`<button type="button" class="secondary" aria-expanded=${isOpen ? 'true' : 'false'}
        @click=${toggle}>${isOpen ? text.lists.fewer : ask}</button>` : nothing}
      ${isOpen && all < items.length ? html`<p class="note">${text.lists.left(format.number(items.length - all))}</p>` : nothing}`,
  };
}

export const avatar = (child) => html`<span class="avatar tint-${(child.number - 1) % 5}" aria-hidden="true">
  ${nickname(child.id) ? [...nameOf(child)][0].toLocaleUpperCase() : child.number}</span>`;

export const renameButton = (child, changed) => html`<button type="button" class="quiet rename"
  aria-label=${nickname(child.id) ? text.nickname.change(nameOf(child)) : text.nickname.give(nameOf(child))}
  @click=${() => rename(child, changed)}>
  <svg viewBox="0 0 20 20" aria-hidden="true"><path d="M4 16l.8-3.4L13 4.4l2.6 2.6-8.2 8.2z M11.5 6l2.6 2.6"/></svg>
</button>`;

let bubble;

/** Shows what a number means beside the button that asked; Escape or a click elsewhere closes it. */
function explain(button, label, meaning) {
  if (!bubble) {
    bubble = document.createElement('div');
    bubble.id = 'meaning';
    bubble.popover = 'auto';
    bubble.tabIndex = -1;
    bubble.setAttribute('role', 'dialog');
    bubble.setAttribute('aria-labelledby', 'meaning-label');
    const close = document.createElement('button');
    close.type = 'button';
    close.className = 'quiet close';
    close.ariaLabel = text.why.close;
    close.textContent = '×';
    close.onclick = () => bubble.hidePopover();
    const title = document.createElement('strong');
    title.id = 'meaning-label';
    bubble.append(title, document.createElement('p'), close);
    document.body.append(bubble);
    // Only where the focus is still inside: a click elsewhere has moved it on purpose.
    bubble.addEventListener('beforetoggle', (event) => {
      if (event.newState === 'closed' && bubble.contains(document.activeElement)) bubble.asked.focus();
    });
    window.addEventListener('scroll', () => bubble.matches(':popover-open') && place(), { passive: true });
  }
  bubble.asked = button;
  bubble.querySelector('strong').textContent = label;
  bubble.querySelector('p').textContent = meaning;
  bubble.showPopover();
  place();
  bubble.focus({ preventScroll: true });
}

function place() {
  const at = bubble.asked.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = bubble;
  const left = Math.min(Math.max(12, at.left + at.width / 2 - width / 2), document.documentElement.clientWidth - width - 12);
  const below = at.bottom + 8 + height < window.innerHeight;
  bubble.style.left = `${left}px`;
  bubble.style.top = `${below ? at.bottom + 8 : Math.max(12, at.top - height - 8)}px`;
}

let dialog;

/** Asks for a child's nickname. */
function rename(child, changed) {
  if (!dialog) {
    dialog = document.createElement('dialog');
    dialog.setAttribute('aria-labelledby', 'nickname-title');
    dialog.innerHTML = `<form novalidate>
      <h2 id="nickname-title"></h2>
      <label for="nickname-field"></label>
      <input id="nickname-field" maxlength="30" autocomplete="off" spellcheck="false" aria-describedby="nickname-hint">
      <p id="nickname-hint" class="hint"></p>
      <div class="actions"><button type="button" class="secondary"></button><button class="primary"></button></div>
    </form>`;
    dialog.querySelector('h2').textContent = text.nickname.title;
    dialog.querySelector('label').textContent = text.nickname.field;
    dialog.querySelector('.hint').textContent = text.nickname.hint;
    dialog.querySelector('.primary').textContent = text.nickname.save;
    dialog.querySelector('.secondary').textContent = text.nickname.cancel;
    dialog.querySelector('.secondary').onclick = () => dialog.close();
    document.body.append(dialog);
  }
  const field = dialog.querySelector('input');
  field.value = nickname(child.id) ?? '';
  dialog.querySelector('form').onsubmit = (event) => {
    event.preventDefault();
    keepNickname(child.id, field.value.trim());
    dialog.close();
    changed();
  };
  dialog.showModal();
  field.select();
}
