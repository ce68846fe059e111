// Today moves while one watches, and nothing is missed.

import { activeOf, answerOf, enter, expect, fact, families, openChild, send, test } from './support.js';

const { four, moving } = families;

const answersOf = (page) => fact(page.locator('.card.today'), 'Answers');

test('today moves after an event', async ({ page, line }) => {
  await enter(page, line, 'moving');
  const [child] = moving.children;
  await openChild(page, child);
  await expect(page.locator('main')).toContainText('Nothing from Child 1 yet');
  await send([answerOf(child), activeOf(child, 3)]);
  await expect(answersOf(page)).toHaveText('1');
  await expect(fact(page.locator('.card.today'), 'Time')).toHaveText(/^3 min/);
  // Those who do not see it hear it.
  await expect(page.locator('#spoken')).toContainText(/1 answer$/);
  const times = [];
  for (let count = 2; count <= 21; count += 1) {
    const seen = page.evaluate((wanted) => new Promise((resolve) => {
      const look = () => {
        const name = [...document.querySelectorAll('.card.today dt')].find((one) => one.textContent.trim().startsWith('Answers'));
        if (name?.nextElementSibling.textContent.trim() === wanted) resolve(Date.now());
      };
      new MutationObserver(look).observe(document.getElementById('page'), { subtree: true, childList: true, characterData: true });
      look();
    }), String(count));
    await send([answerOf(child)]);
    const accepted = Date.now();
    times.push(await seen - accepted);
  }
  times.sort((a, b) => a - b);
  const at = (part) => times[Math.ceil(times.length * part) - 1];
  console.log(`from the answer of ingest to the page, ${times.length} events: p50 ${at(0.5)} ms, p95 ${at(0.95)} ms`);
  // Subjects and topics, which the stream does not carry, follow.
  await expect(page.locator('.subjects')).toContainText('21 of 21');
  await expect(page.locator('.topics')).toContainText('21 of 21');
  // And on the card of the family's view.
  await page.getByRole('link', { name: 'All children' }).click();
  await expect(fact(page.locator('.children > li').first(), 'Answers')).toHaveText('21');
});

test('the API is gone and comes back: nothing is missed', async ({ page, line }) => {
  await enter(page, line, 'four');
  const [, child, other] = four.children;
  await openChild(page, child);
  await send([answerOf(child)]);
  await expect(answersOf(page)).toHaveText('1');
  await line.cut();
  await expect(page.locator('header .live')).toContainText('Connecting again');
  // What was known stays.
  await expect(answersOf(page)).toHaveText('1');
  await send([answerOf(child), answerOf(child), answerOf(other)]);
  await line.open();
  await expect(page.locator('header .live')).toContainText('Up to date');
  await expect(answersOf(page)).toHaveText('3');
  await send([answerOf(child)]);
  await expect(answersOf(page)).toHaveText('4');
  await page.getByRole('link', { name: 'All children' }).click();
  await expect(fact(page.locator('.children > li').nth(2), 'Answers')).toHaveText('1');
});

test('a day that a recount takes away goes from the page', async ({ page, line }) => {
  const [child] = moving.children;
  await send([answerOf(child)]);
  await enter(page, line, 'moving');
  await openChild(page, child);
  await expect(answersOf(page)).toBeVisible();
  const today = new Intl.DateTimeFormat('sv', { timeZone: moving.timezone }).format();
  const update = {
    child_id: child, timezone: moving.timezone, today, days: [], empty: [today], streak: { streak_today: 0, active_days: [] },
  };
  // The first as a node of an older release tells it.
  const told = [{ ...update, empty: undefined }, update].map((data) => `event: update\nid: 1\ndata: ${JSON.stringify(data)}\n\n`);
  await page.route('**/live', (route) => route.fulfill({ contentType: 'text/event-stream', body: told.join('') }));
  await line.cut();
  await line.open();
  await expect(page.locator('main')).toContainText('Nothing yet today');
});

test('differences are taken up to the letter, and everything is told anew when one does not fit', async ({ page, line }) => {
  await page.goto(line.origin);
  const rows = await page.evaluate(async () => {
    const { rowAfter } = await import('/page/live.js');
    const row = { local_date: '2026-05-04', events: 4, xp: 5, topics: ['a', '\u{e000}', '\u{1f98a}'], badges: ['one'] };
    const part = { local_date: '2026-05-04', events: 5, partial: true };
    return [
      rowAfter(row, { ...part, topics_added: ['\u{1f98b}', '\u{ffee}', 'b'], topics_removed: ['a'], badges: ['two'] }),
      rowAfter({ ...row, events: 6, topics: ['b'] }, { ...part, topics_added: ['b'], topics_removed: ['a'] }),
      rowAfter(row, { local_date: '2026-05-04', events: 7 }),
      rowAfter(undefined, part),
      row,
    ];
  });
  const row = { local_date: '2026-05-04', events: 4, xp: 5, topics: ['a', '\u{e000}', '\u{1f98a}'], badges: ['one'] };
  expect(rows).toEqual([
    { ...row, events: 5, topics: ['b', '\u{e000}', '\u{ffee}', '\u{1f98a}', '\u{1f98b}'], badges: ['two'] },
    { ...row, events: 5, topics: ['b'] },
    { local_date: '2026-05-04', events: 7 },
    null,
    row,
  ]);

  const [child] = moving.children;
  const update = { child_id: child, timezone: moving.timezone, today: moving.today, empty: [] };
  const told = [
    { ...update, whole: true, from: moving.today, days: [], streak: { streak_today: 0, active_days: [] } },
    { ...update, whole: false, days: [{ local_date: '2020-02-29', events: 2, partial: true }] },
  ];
  const asked = [];
  await page.route('**/live', (route) => {
    asked.push(route.request().headers()['last-event-id'] ?? null);
    const data = told[asked.length - 1];
    if (!data) return route.continue();
    const body = `event: update\nid: ${asked.length}\ndata: ${JSON.stringify(data)}\n\n`;
    return route.fulfill({ contentType: 'text/event-stream', body });
  });
  await enter(page, line, 'moving', { live: false });
  await expect.poll(() => asked).toEqual([null, '1', null]);
  await expect(page.locator('header .live')).toHaveClass(/\bon\b/);
});

test('the API is away at first, or overloaded', async ({ page, line }) => {
  let refused = 0;
  await page.route('**/v1/**', (route) => {
    refused += 1;
    if (refused > 2) return route.continue();
    return route.fulfill({ status: 503, headers: { 'Retry-After': '1' }, json: { status: 503, code: 'unavailable' } });
  });
  await page.goto(`${line.origin}/#token=${four.token}`);
  await expect(page.locator('h1')).toHaveText('The numbers cannot be read just now');
  await expect(page.locator('main')).toContainText('having a short rest');
  await expect(page.locator('.children > li')).toHaveCount(4);
  await page.unrouteAll();

  // The page itself was there, and then there is no network.
  await page.route('**/v1/**', (route) => route.abort());
  await page.reload();
  await expect(page.locator('main')).toContainText('Is it online?');
  await page.unrouteAll();
  await expect(page.locator('.children > li')).toHaveCount(4);
});

test('the day turns while one looks', async ({ page, line }) => {
  const day = (iso) => new Intl.DateTimeFormat('en-GB', { weekday: 'long', day: 'numeric', month: 'long', timeZone: 'UTC' })
    .format(new Date(`${iso}T00:00:00Z`));
  const yesterday = new Date(Date.parse(`${moving.today}T00:00:00Z`) - 86_400_000).toISOString().slice(0, 10);
  let isOver = false;
  await page.route('**/live', (route) => route.abort());
  await page.route(`**/v1/families/${moving.parent}`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), ...(!isOver && { today: yesterday }) } });
  });
  await enter(page, line, 'moving', { live: false });
  await expect(page.locator('h1')).toHaveText(day(yesterday));
  isOver = true;
  // By the clock of the family's wall, with nobody sending anything.
  await expect(page.locator('h1')).toHaveText(day(moving.today));
});

test('events of the stream are read however they are cut', async ({ page, line }) => {
  await page.goto(line.origin);
  const read = await page.evaluate(async () => {
    const { Parser } = await import('/page/live.js');
    const stream = ': hello\r\n\r\nretry: 500\rid: 1\revent: update\rdata: {"a":\rdata: 1}\r\rdata\n\nid: 2\nevent: update\ndata:x\n\nid: 3\nevent: update\ndata: cut off';
    const results = new Set();
    for (let size = 1; size <= stream.length; size += 1) {
      const parser = new Parser();
      const events = [];
      for (let at = 0; at < stream.length; at += size) events.push(...parser.push(stream.slice(at, at + size)));
      results.add(JSON.stringify([events, parser.id, parser.retry]));
    }
    return [...results];
  });
  expect(read).toEqual([JSON.stringify([
    [{ type: 'update', data: '{"a":\n1}' }, { type: 'message', data: '' }, { type: 'update', data: 'x' }], '2', 500,
  ])]);
});
