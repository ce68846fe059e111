// What the tests share: the families that tests/tests/end_to_end/page.rs made, events for them, and a line to the API
// that can be cut.

import { createHmac, randomUUID } from 'node:crypto';
import net from 'node:net';
import { expect, test as base } from '@playwright/test';

const given = JSON.parse(process.env.RIVULET_PAGE_TEST ?? 'null');
if (!given) throw new Error('cargo test -p rivulet-tests --test end_to_end page runs these');

/** `{NAME: {parent, children, token, timezone}}` */
export const { families, admin_key: adminKey, ingest_key: ingestKey } = given;

/** The only way between a browser and the API: it counts what goes over it, and can be cut. */
class Line {
  received = 0;
  #sockets = new Set();
  #server = null;
  #port = 0;

  get origin() {
    return `http://127.0.0.1:${this.#port}`;
  }

  async open() {
    const [host, port] = given.api.split(':');
    this.#server = net.createServer((near) => {
      const far = net.connect(Number(port), host);
      for (const [one, other] of [[near, far], [far, near]]) {
        this.#sockets.add(one);
        one.on('error', () => other.destroy()).on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
      near.pipe(far);
      far.on('data', (piece) => { this.received += piece.length; }).pipe(near);
    });
    await new Promise((resolve, reject) => {
      this.#server.on('error', reject).listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = this.#server.address().port;
  }

  async cut() {
    const closed = new Promise((resolve) => { this.#server.close(resolve); });
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

export const test = base.extend({
  line: async ({}, use) => {
    const line = new Line();
    await line.open();
    await use(line);
    await line.cut();
  },
  /** Every test fails on an error in the page, on a breach of its own policy, and on a stranger's host. */
  page: async ({ page, line }, use) => {
    const wrong = [];
    page.on('pageerror', (error) => wrong.push(error.stack));
    page.on('console', (message) => {
      if (/content security policy/i.test(message.text())) wrong.push(message.text());
    });
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.origin !== line.origin && url.protocol !== 'data:') wrong.push(`left the origin: ${url}`);
    });
    await use(page);
    expect(wrong).toEqual([]);
  },
});

export { expect };

/** Opens the page as a product's backend does, and waits until it follows along. */
export async function enter(page, line, family, { live = true, token = families[family].token } = {}) {
  await page.goto(`${line.origin}/#token=${token}`);
  if (live) await expect(page.locator('header .live')).toHaveClass(/\bon\b/);
}

/** Opens a child of the family that is shown. */
export async function openChild(page, child, more = '') {
  await page.evaluate((hash) => { location.hash = hash; }, `child=${child}${more}`);
  await expect(page.locator('main.child h1')).toBeVisible();
}

/** What was asked for is there, and drawn. */
export async function drawn(page) {
  await expect(page.locator('.grid')).toHaveAttribute('aria-busy', 'false');
  await expect(page.locator('bar-chart canvas')).toHaveCount(5);
}

/** Sends events through ingest; returns what they are answered. */
export async function post(events, query = '') {
  const answer = await fetch(`http://${given.ingest}/v1/events${query}`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${given.ingest_key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({ events: events.map((event) => ({
      id: randomUUID(), occurred_at: new Date().toISOString(), ...event,
    })) }),
  });
  return answer.json();
}

/** Sends events through ingest; returns when they are accepted. */
export async function send(events) {
  const body = await post(events);
  if (body.accepted !== events.length) throw new Error(JSON.stringify(body));
}

/** Registers a parent or child again, as the product's backend does. */
export async function register(path, body) {
  const answer = await fetch(`http://${given.ingest}/v1/admin/${path}`, {
    method: 'PUT',
    headers: { Authorization: `Bearer ${given.admin_key}`, 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

export const answerOf = (child, more = {}) => ({
  type: 'interaction', child_id: child,
  data: { action: 'answer', subject: 'math', topic: 'fractions', is_correct: true, ...more },
});

export const activeOf = (child, minutes) => ({
  type: 'session', child_id: child, session_id: randomUUID(),
  data: { action: 'heartbeat', active_ms: minutes * 60_000 },
});

/** A token with these claims, signed as the backend does. */
export function tokenWith(claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ aud: given.audience, ...claims })}`;
  return `${signed}.${createHmac('sha256', given.secret).update(signed).digest('base64url')}`;
}

/** The number beside a name in `scope`. */
export const fact = (scope, name) =>
  scope.locator('.facts > div').filter({ has: scope.page().locator('dt', { hasText: new RegExp(`^\\s*${name}`) }) }).locator('dd');
