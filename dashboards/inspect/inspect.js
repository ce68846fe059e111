// What arrives at ingest now and where it goes, for whoever makes an app.

import { html, nothing, render } from './vendor/lit-html/lit-html.js';
import { follow } from './live.js';
import * as list from './rows.js';

const KEY = 'rivulet.admin';

/** A tab that nobody has looked at for so long lets the stream go, ms. It comes back with the look. */
const UNSEEN = 300_000;

/** The least time between two sentences to a screen reader, ms. */
const QUIET = 10_000;

const CODES = ['too_large', 'invalid_json', 'raw_audio_forbidden', 'unknown_type', 'missing_field', 'invalid_field',
  'unknown_child', 'child_deleted', 'consent_required', 'too_old', 'in_future'];

const root = document.getElementById('page');
const spoken = document.getElementById('spoken');
const icon = new URL('icon.svg', import.meta.url).pathname;

// A browser that keeps nothing makes these throw.
function kept() {
  try { return sessionStorage.getItem(KEY); } catch { return null; }
}

function keep(value) {
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch { /* It holds until the page is closed. */ }
}

let key = kept();
let refused = null;
let filter = {};
let isUp = null;
let nodes = new Map();
let stores = null;
let following = null;
let told = 0;

function start() {
  following?.abort();
  following = new AbortController();
  Object.assign(list.state, { missed: 0 });
  nodes = new Map();
  isUp = null;
  stores = null;
  const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
  follow(key, `/v1/inspect?${query}`, {
    update(update) {
      const [[what, value]] = Object.entries(update);
      if (what === 'event') {
        list.add(value);
        told += 1;
      } else if (what === 'fate') {
        stores = null;
        list.settle(value);
      } else if (what === 'missed') list.state.missed += value;
      else if (what === 'node') nodes.set(value.node, value.trouble);
      else if (what === 'stores') stores = value;
      changed();
      return true;
    },
    state(up) {
      if (up === isUp) return;
      if (up) {
        list.begin();
        nodes = new Map();
      }
      isUp = up;
      changed();
    },
    refused: (status) => leave(status),
  }, following.signal);
}

function leave(status = null) {
  following?.abort();
  following = null;
  list.clear();
  key = null;
  keep(null);
  refused = status;
  draw();
  root.querySelector('input')?.focus();
}

function enter(event) {
  event.preventDefault();
  const given = event.target.elements.key.value.trim();
  if (!given) return;
  key = given;
  refused = null;
  keep(key);
  start();
  draw();
  root.querySelector('h1')?.focus();
}

const why = () => {
  if (refused === 401) return 'This key is unknown or was revoked.';
  if (refused === 403) return 'This key may not look: it takes one of scope admin.';
  return null;
};

const signIn = () => html`<main class="calm">
  <h1 tabindex="-1">What arrives now</h1>
  <p>Each event that an app sends: what it was answered, and where it went. Nothing of what it holds is shown.</p>
  ${why() ? html`<p class="wrong" role="alert">${why()}</p>` : nothing}
  <form @submit=${enter}>
    <label for="key">An API key of scope <code>admin</code></label>
    <input id="key" name="key" type="password" autocomplete="off" spellcheck="false" required>
    <p class="hint">It is kept for this tab alone. Make one with
      <code>rivulet keys create --name NAME --scope admin</code>; <code>./dev env</code> prints one for development.</p>
    <button class="primary">Watch</button>
  </form>
</main>`;

const header = () => html`<header>
  <a class="skip" href="#events">To the events</a>
  <span class="brand"><img src=${icon} alt="" width="28" height="28">Rivulet</span>
  <p class="live ${isLive() ? 'on' : ''}" role="status"><i aria-hidden="true"></i><span>${status()}</span></p>
  <button type="button" class="quiet" @click=${() => leave()}>Forget the key</button>
</header>`;

/** Whether what arrives at a node at least would be told now. */
const isLive = () => isUp && [...nodes.values()].some((trouble) => trouble == null);

function status() {
  if (isUp === false) return 'Not connected; it is tried again';
  if (!isUp || !nodes.size) return 'Connecting';
  if (!isLive()) return 'No node tells what arrives';
  return list.state.paused ? 'Paused' : 'Live';
}

function change(event) {
  event.preventDefault();
  filter = Object.fromEntries(new FormData(event.target.form ?? event.target));
  for (const name of Object.keys(filter)) filter[name] = filter[name].trim();
  list.clear();
  start();
  draw();
}

const field = (name, label, more = {}) => html`<div>
  <label for=${name}>${label}</label>
  <input id=${name} name=${name} autocomplete="off" spellcheck="false" .value=${filter[name] ?? ''}
    list=${more.list ?? nothing} pattern=${more.pattern ?? nothing} title=${more.title ?? nothing}>
</div>`;

const filters = () => html`<form class="filters" role="search" aria-label="Which events" @submit=${change}>
  ${field('child', 'Child', {
    pattern: '\\s*[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\\s*', title: 'The id of a child, a UUID',
  })}
  ${field('key', 'Name of the API key')}
  ${field('code', 'Code', { list: 'codes' })}
  <datalist id="codes">${CODES.map((code) => html`<option value=${code}></option>`)}</datalist>
  <div>
    <label for="outcome">Outcome</label>
    <select id="outcome" name="outcome" @change=${change}>
      ${['', 'accepted', 'rejected', 'retry', 'refused'].map((word) => html`
        <option value=${word} ?selected=${(filter.outcome ?? '') === word}>${word || 'any'}</option>`)}
    </select>
  </div>
  <div class="actions">
    <button class="secondary">Filter</button>
    <button type="button" class="secondary" @click=${togglePause}>
      ${list.state.paused ? `Resume${list.heldCount() ? ` (${list.heldCount()} new)` : ''}` : 'Pause'}</button>
    <button type="button" class="quiet" @click=${() => { list.clear(); draw(); }}>Clear</button>
  </div>
</form>`;

function togglePause() {
  list.pause(!list.state.paused);
  draw();
}

const notes = () => {
  const down = [...nodes].filter(([, trouble]) => trouble);
  const { missed, dropped } = list.state;
  if (!down.length && !stores && !missed && !dropped) return nothing;
  return html`<div class="notes" role="status">
    ${down.map(([node, trouble]) => html`<p><strong>${node}</strong>: ${trouble}</p>`)}
    ${stores ? html`<p>What becomes of events is not known now: ${stores}.</p>` : nothing}
    ${missed ? html`<p>${missed} more arrived, faster than they could be told. A filter helps.</p>` : nothing}
    ${dropped ? html`<p>${dropped} that came while you paused are not shown: ${list.MOST} are kept.</p>` : nothing}
  </div>`;
};

const time = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3,
});

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

const ROLLUPS = {
  waiting: () => 'not counted yet', counted: () => 'counted',
  duplicate: (fate) => (fate.duplicate_of == null ? 'a copy, not counted again' : `a copy of offset ${fate.duplicate_of}`),
  not_counted: () => 'not counted: rivulet trace says why', unknown: () => 'not followed to the end',
};
const HISTORY = {
  waiting: () => 'not in the history yet',
  stored: (fate) => `in the history${fate.history_after_ms == null ? '' : ` after ${seconds(fate.history_after_ms)}`}`,
  duplicate: () => 'in the history already', withheld: () => 'withheld: analytics is not granted',
  not_stored: () => 'not in the history: rivulet trace says why', unknown: () => 'not followed to the end',
};

/** Where it went, in a few words. */
function fateOf(row) {
  if (row.dry_run) return 'dry run: nothing was stored';
  if (row.outcome !== 'accepted') return [row.status, row.code, row.pointer].filter((part) => part != null).join(' ');
  if (!row.fate) return row.durability === 'spilled' ? 'on the node’s disk' : 'on its way';
  const words = [ROLLUPS[row.fate.rollups]?.(row.fate) ?? row.fate.rollups];
  if (['stored', 'withheld', 'not_stored'].includes(row.fate.history)) words.push(HISTORY[row.fate.history](row.fate));
  return words.join(', ');
}

const facts = (row) => [
  ['Event', row.id], ['Child', row.child_id], ['Type', row.type],
  ['Key', row.key], ['Client token of family', row.family],
  ['Request', row.request_id], ['Place in it', row.index], ['Node', row.node],
  ['Happened', row.occurred_at], ['Device’s clock when sent', row.sent_at], ['Arrived', row.received_at],
  ['Status', row.status], ['Code', row.code], ['Field', row.pointer], ['Warnings', row.warnings?.join(', ')],
  ['Kafka', row.topic && `${row.topic}, partition ${row.partition}, offset ${row.offset}`],
  ['Durable', row.durability === 'spilled' ? 'on the node’s disk, until Kafka takes it' : null],
  ['Rollups', row.fate && (ROLLUPS[row.fate.rollups]?.(row.fate) ?? row.fate.rollups)],
  ['History', row.fate?.history && (HISTORY[row.fate.history]?.(row.fate) ?? row.fate.history)],
].filter(([, value]) => value != null && value !== '');

async function copy(event, text) {
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(text);
    say('Copied');
    button.textContent = 'Copied';
  } catch {
    // Without leave to do so: what is selected can be copied by hand.
    const range = document.createRange();
    range.selectNodeContents(button.parentElement.querySelector('pre'));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = 'Selected';
  }
  setTimeout(() => { button.textContent = 'Copy'; }, 2_000);
}

const details = (row) => html`
  <dl>${facts(row).map(([name, value]) => html`<div><dt>${name}</dt><dd class="named">${value}</dd></div>`)}</dl>
  ${row.curl ? html`<div class="again">
    <h3 id="again-${row.name}">The same again, as a dry run</h3>
    <p class="note">Nothing is stored. Its id, type, child, clocks and which field was missing or not good are the event’s;
      the rest of <code>data</code> is made up, because nobody has it.</p>
    <pre tabindex="0" aria-labelledby="again-${row.name}">${row.curl}</pre>
    <button type="button" class="secondary" @click=${(event) => copy(event, row.curl)}>Copy</button>
  </div>` : html`<p class="note">It cannot be said what was sent, so there is no command that sends it again.</p>`}`;

function toggle(event, row) {
  row.isOpen = event.target.open;
  row.isDrawn = false;
  drawRows();
}

const line = (row) => html`<details @toggle=${(event) => toggle(event, row)}>
    <summary>
      <time datetime=${row.received_at}>${time.format(new Date(row.received_at))}</time>
      <span class="outcome">${row.outcome}</span>
      <span class="type">${row.type ?? (row.index == null ? 'request' : 'event')}</span>
      <span class="child" title=${row.child_id ?? nothing}>${row.child_id?.slice(0, 8) ?? ''}</span>
      <span class="fate named">${fateOf(row)}</span>
    </summary>
    ${row.isOpen ? details(row) : nothing}
  </details>`;

/** Each row keeps its element, and with it the focus, wherever it moves; only what has changed is drawn. */
function drawRows() {
  const to = root.querySelector('.events');
  if (!to) return;
  const gone = new Set(to.children);
  let next = to.firstElementChild;
  for (const row of list.rows) {
    row.element ??= Object.assign(document.createElement('li'), { className: row.outcome });
    gone.delete(row.element);
    if (!row.isDrawn) render(line(row), row.element);
    row.isDrawn = true;
    if (row.element === next) next = next.nextElementSibling;
    else to.insertBefore(row.element, next);
  }
  for (const element of gone) element.remove();
}

const EXAMPLE = `eval "$(./dev env)"
curl -sS "$RIVULET_INGEST_URL/v1/events" -H "Authorization: Bearer $RIVULET_INGEST_KEY" \\
  -H 'Content-Type: application/json' -d '{"events": [{"id": "'$(uuidgen)'", "type": "interaction",
  "child_id": "'$CHILD'", "occurred_at": "'$(date -u +%FT%TZ)'", "data": {"action": "answer", "is_correct": true}}]}'`;

const empty = () => html`<div class="card nothing">
  <h2>Nothing has arrived since you look</h2>
  <p>${Object.values(filter).some(Boolean) ? 'Nothing that the filter lets through. Send an event:' : 'Send an event:'}</p>
  <pre tabindex="0" aria-label="A first event">${EXAMPLE}</pre>
</div>`;

const view = () => (key ? html`${header()}
  <main>
    <h1 tabindex="-1">What arrives now</h1>
    ${filters()}
    ${notes()}
    <section id="events" tabindex="-1" aria-label="Events, the newest first">
      ${list.rows.length ? html`<ol class="events"></ol>` : empty()}
    </section>
  </main>
  <footer><p>The newest ${list.MOST} are shown. Nothing is kept when you close this page, and no text of a child is ever
    shown, because none is ever kept. Whose events you see is written to the audit log.</p></footer>` : signIn());

function draw() {
  render(view(), root);
  drawRows();
}

let drawing = false;

/** Draws a few times a second, however much arrives. */
function changed() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    draw();
    announce();
  }, 100);
}

let lastSaid = 0;

function announce() {
  if (!told || list.state.paused || Date.now() - lastSaid < QUIET) return;
  say(`${told} new ${told === 1 ? 'event' : 'events'}`);
  told = 0;
}

function say(text) {
  lastSaid = Date.now();
  spoken.textContent = text;
}

let unseen = null;

document.addEventListener('visibilitychange', () => {
  clearTimeout(unseen);
  if (document.visibilityState === 'visible') {
    if (key && !following) start();
    draw();
  } else {
    unseen = setTimeout(() => {
      following?.abort();
      following = null;
      isUp = null;
    }, UNSEEN);
  }
});

// What the page shows until this script runs.
root.replaceChildren();
if (key) start();
draw();
