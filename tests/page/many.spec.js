// A child of whom the app names more than a page can show.

import { drawn, enter, expect, families, openChild, test } from './support.js';

const [child] = families.many.children;

/** What was asked of the API of this kind. */
function asked(page, kind) {
  const all = [];
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url());
    if (pathname.endsWith(`/${kind}`)) all.push(search);
  });
  return all;
}

test('the first topics, and how many more there are', async ({ page, line }) => {
  const requests = asked(page, 'topics');
  await enter(page, line, 'many');
  await openChild(page, child);
  const card = page.locator('.card.topics');
  await expect(card.locator('tbody tr')).toHaveCount(8);
  await expect(card.locator('.note')).toContainText('more than 2,000 topics');
  await expect(card.getByRole('button', { name: 'Show more topics' })).toHaveCount(0);
  await card.getByRole('button', { name: /^Show the first \d+$/ }).click();
  const lines = card.locator('tbody tr');
  await expect(lines.nth(8)).toBeVisible();
  const first = await lines.count();
  expect(first).toBeLessThanOrEqual(500);
  expect(requests.length).toBe(1);
  // One page more for each time that somebody asks, until they are all there, each once.
  const more = card.getByRole('button', { name: 'Show more topics' });
  while (await more.count()) {
    const before = await lines.count();
    await more.click();
    await expect(lines.nth(before)).toBeVisible();
  }
  const names = await lines.locator('th').allTextContents();
  expect(names.length).toBe(2_512);
  expect(new Set(names).size).toBe(2_512);
  await card.getByRole('button', { name: 'Show fewer' }).click();
  await expect(lines).toHaveCount(8);
});

test('the subjects that are used most, and how many others there are', async ({ page, line }) => {
  const requests = asked(page, 'learning');
  await enter(page, line, 'many');
  await openChild(page, child);
  await drawn(page);
  const table = page.locator('.subjects tbody tr');
  await expect(table).toHaveCount(12);
  // All of them are added up: the one with most answers is neither of the first nor of the last page.
  await expect(table.first()).toContainText('of 5,000');
  expect(requests.length).toBeGreaterThan(3);
  const card = page.locator('.card', { has: page.locator('.subjects') });
  await card.getByRole('button', { name: 'Show 200 of 2,504' }).click();
  await expect(table).toHaveCount(200);
  await expect(card.locator('.note')).toHaveText('2,304 more are not listed.');
  await card.getByRole('button', { name: 'Show fewer' }).click();
  await expect(table).toHaveCount(12);
});

test('what today was about, and badges, as far as they are known', async ({ page, line }) => {
  await enter(page, line, 'many');
  await openChild(page, child);
  await drawn(page);
  await expect(page.locator('.about bdi')).toHaveCount(5);
  await expect(page.locator('.about')).toContainText('and more than 251 others');
  const badges = page.locator('.badges');
  await expect(badges.locator('li')).toHaveCount(12);
  await expect(badges).toContainText('more than 256 badges');
  await badges.getByRole('button', { name: 'Show 200 of 256' }).click();
  await expect(badges.locator('li')).toHaveCount(200);
  await expect(badges).toContainText('56 more are not listed.');
});

test('a child whose subjects have no end is not asked for without one', async ({ page, line }) => {
  const requests = asked(page, 'learning');
  await page.route(/\/learning\?/, async (route) => {
    const answer = await (await route.fetch()).json();
    route.fulfill({ json: { ...answer, next: 'AAAA' } });
  });
  // There is no such place: each answer is the first again.
  await page.route(/\/learning\?.*after=AAAA/, async (route) => {
    const url = route.request().url().replace('&after=AAAA', '');
    const answer = await (await route.fetch({ url })).json();
    route.fulfill({ json: { ...answer, next: 'AAAA' } });
  });
  await enter(page, line, 'many');
  await openChild(page, child);
  await drawn(page);
  expect(requests.length).toBe(24);
  await expect(page.locator('.card', { has: page.locator('.subjects') })).toContainText('so many subjects');
});
