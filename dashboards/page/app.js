// The page: who looks, at what, and drawing it again when something changes.

import { html, icon, nameOf, nothing } from './parts.js';
import { render } from './vendor/lit-html/lit-html.js';
import { childView } from './child.js';
import { familyView } from './family.js';
import { keepToken, sessionOf, takeToken } from './session.js';
import { spans } from './periods.js';
import { childOf, start, state, stop } from './store.js';
import * as format from './format.js';
import * as states from './states.js';
import * as text from './text.js';

/** The least time between two sentences to a screen reader about what moved, ms. */
const QUIET = 30_000;

document.documentElement.lang = text.language;
document.documentElement.dir = format.directionOf(text.language);

const root = document.getElementById('page');
const spoken = document.getElementById('spoken');

let isIn = false;
let isWrong = false;
let drawing = false;
let route = {};

/** Where in the page one is, by the address: `#child=ID&span=year&back=1`. */
function read() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const back = Number.parseInt(fragment.get('back') ?? '0', 10);
  const span = fragment.get('span');
  return {
    child: fragment.get('child'),
    span: spans.includes(span) ? span : 'month',
    back: back > 0 ? back : 0,
  };
}

function go({ child, span, back }) {
  location.hash = new URLSearchParams({ child, span, back });
}

function enter(token) {
  const session = token && sessionOf(token);
  isWrong = !session;
  isIn = Boolean(session);
  if (session) {
    keepToken(session.token);
    start(session, changed);
  }
  draw();
}

function leave() {
  stop();
  keepToken(null);
  isIn = false;
  isWrong = false;
  history.replaceState(null, '', location.pathname);
  route = read();
  draw();
  root.querySelector('h1')?.focus();
}

function view() {
  if (!isIn) return states.signIn(isWrong, enter);
  switch (state.phase) {
    case 'loading': return states.loading();
    case 'failed': return states.failed(state.problem);
    case 'expired': return states.expired();
    case 'missing': return states.missing();
    default: return html`${header()}${route.child ? childView(route, go, draw) : familyView(draw)}${footer()}`;
  }
}

const header = () => html`<header>
  <a class="skip" href="#main" @click=${skip}>${text.page.skip}</a>
  <a class="brand" href="#"><img src=${icon} alt="" width="28" height="28">${text.page.title}</a>
  <p class="live ${state.live ? 'on' : ''}" role="status"><i aria-hidden="true"></i><span>${status()}</span></p>
  <button type="button" class="quiet" title=${text.page.leaveMeaning} @click=${leave}>${text.page.leave}</button>
</header>`;

const status = () => {
  if (state.live) return text.page.live;
  if (state.live == null) return text.page.connecting;
  return text.page.notLive(state.asOf && format.time(state.asOf, state.timezone));
};

const footer = () => html`<footer><p>${text.page.zone(format.zone(state.timezone))}</p><p>${text.page.privacy}</p></footer>`;

// The fragment says where one is: a jump by it would lead elsewhere.
function skip(event) {
  event.preventDefault();
  document.getElementById('main').focus();
}

function draw() {
  const child = route.child && state.phase === 'ready' && childOf(route.child);
  document.title = child ? `${nameOf(child)} – ${text.page.title}` : text.page.title;
  render(view(), root);
}

/** Draws once a frame, however much changes in it. */
function changed(update) {
  if (update) announce(update);
  if (drawing) return;
  drawing = true;
  // Not requestAnimationFrame: a page in the background would never draw its end.
  setTimeout(() => {
    drawing = false;
    draw();
  }, 16);
}

let lastSaid = 0;

/** Says what moved to those who cannot see it, about the child that they look at, and not all the time. */
function announce({ child, days }) {
  const row = days.find((day) => day.local_date === state.today);
  if (!row || child.id !== route.child || Date.now() - lastSaid < QUIET) return;
  lastSaid = Date.now();
  spoken.textContent = text.child.spoken(nameOf(child), format.duration(row.active_ms), row.answers);
}

window.addEventListener('hashchange', () => {
  const given = new URLSearchParams(location.hash.slice(1)).has('token');
  const before = route;
  const token = given && takeToken();
  route = read();
  if (given) enter(token);
  else draw();
  if (before.child !== route.child) {
    window.scrollTo(0, 0);
    root.querySelector('h1')?.focus({ preventScroll: true });
  }
});

// What the page shows until this script runs.
root.replaceChildren();
const token = takeToken();
route = read();
if (token) enter(token);
else draw();
