// Children of whom nothing is known, much, or not everything.

import { answerOf, drawn, enter, expect, fact, families, openChild, register, send, test } from './support.js';

test('a child of whom nothing is known yet', async ({ page, line }) => {
  await enter(page, line, 'new');
  const card = page.locator('.children > li');
  await expect(card).toHaveCount(1);
  await expect(card).toContainText('Nothing yet today.');
  const [child] = families.new.children;
  await openChild(page, child);
  await expect(page.locator('main')).toContainText('Nothing from Child 1 yet');
  await expect(page.locator('bar-chart')).toHaveCount(0);
});

test('a family without children', async ({ page, line }) => {
  await enter(page, line, 'none', { live: false });
  await expect(page.locator('main')).toContainText('No children yet');
});

test('a first event makes a new child’s page', async ({ page, line }) => {
  await enter(page, line, 'first');
  const [child] = families.first.children;
  await openChild(page, child);
  await expect(page.locator('main')).toContainText('Nothing from Child 1 yet');
  await send([answerOf(child, { badge: 'first-steps', topic: '<img src=x onerror=alert(1)>' })]);
  await expect(fact(page.locator('.card.today'), 'Answers')).toHaveText('1');
  await expect(page.locator('.badges')).toContainText('First steps');
  // What an app sends is text, whatever is in it.
  await expect(page.locator('.topics tbody th')).toHaveText('<img src=x onerror=alert(1)>');
  await expect(fact(page.locator('.streak'), 'Days in a row')).toHaveText(/^1 day$/);
});

test('an answer that was asked for before the family changed is shown after', async ({ page, line }) => {
  const { parent, children: [child], timezone } = families.first;
  await enter(page, line, 'first');
  const asked = new Promise((resolve) => { page.route('**/topics', resolve, { times: 1 }); });
  await openChild(page, child);
  const answer = await asked;
  await expect(page.locator('.streak')).toBeVisible();
  await register(`parents/${parent}`, { timezone, streaks: false });
  await expect(page.locator('.streak')).toHaveCount(0);
  await answer.continue();
  await expect(page.locator('.topics tbody th')).toBeVisible();
  await register(`parents/${parent}`, { timezone, streaks: true });
});

test('three years, a page at a time', async ({ page, line }) => {
  const asked = [];
  page.on('request', (request) => {
    const { pathname, searchParams } = new URL(request.url());
    if (pathname.endsWith('/daily')) asked.push([searchParams.get('from'), searchParams.get('to')]);
  });
  await enter(page, line, 'long');
  await openChild(page, families.long.children[0], '&span=year');
  const earlier = page.getByRole('button', { name: 'Earlier', exact: true });
  await expect(earlier).toBeEnabled();
  let steps = 0;
  for (; await earlier.isEnabled(); steps += 1) {
    const shown = await page.locator('.bar .turn p').textContent();
    await earlier.click();
    await expect(page.locator('.bar .turn p')).not.toHaveText(shown);
    await drawn(page);
  }
  expect(steps).toBeGreaterThanOrEqual(2);
  expect(steps).toBeLessThanOrEqual(3);
  await page.getByLabel('All').check();
  await drawn(page);
  await page.getByText('Show as a table: Answers').click();
  const rows = page.getByRole('region', { name: 'Answers' }).locator('tbody tr');
  // All that there are: what PostgreSQL adds up to.
  expect(await rows.count()).toBeGreaterThanOrEqual(36);
  const told = fact(page.locator('.grid .card').nth(1), 'Answers');
  await expect(told).toHaveText(new Intl.NumberFormat('en-GB').format(families.long.answers));
  const subjects = await page.locator('.subjects small').allTextContents();
  const sum = subjects.reduce((all, text) => all + Number(text.match(/of ([\d,]+)/)[1].replaceAll(',', '')), 0);
  expect(sum).toBe(families.long.answers);
  for (const [from, to] of asked) {
    expect((Date.parse(to) - Date.parse(from)) / 86_400_000, `${from} to ${to}`).toBeLessThanOrEqual(365);
  }
});

test('streaks are nowhere where the family has them off', async ({ page, line }) => {
  await enter(page, line, 'off');
  const none = async () => expect(await page.locator('body').innerText()).not.toMatch(/in a row|streak|freeze/i);
  // On a Monday the week has nothing yet: the family did nothing today.
  await expect(page.locator('.children > li')).toContainText(/Days active|Nothing yet this week/);
  await none();
  await openChild(page, families.off.children[0]);
  await drawn(page);
  await expect(page.locator('.topics tbody tr').first()).toBeVisible();
  await none();
  expect(await page.locator('.calendar').count()).toBe(0);
  await send([answerOf(families.off.children[0])]);
  await expect(fact(page.locator('.card.today'), 'Answers')).toHaveText('1');
  await none();
});

test('streaks go and come while one looks', async ({ page, line }) => {
  const { parent, children, timezone } = families.switching;
  await enter(page, line, 'switching');
  await openChild(page, children[0]);
  await expect(page.locator('.calendar')).toBeVisible();
  await register(`parents/${parent}`, { timezone, streaks: false });
  await expect(page.locator('.calendar')).toHaveCount(0);
  await register(`parents/${parent}`, { timezone, streaks: true });
  await expect(page.locator('.calendar')).toBeVisible();
});
