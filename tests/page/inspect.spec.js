// The page of what arrives, for whoever makes an app.

import { randomUUID } from 'node:crypto';
import { adminKey, answerOf, expect, families, ingestKey, post, register, send, test } from './support.js';

const live = (page) => page.locator('header .live');
const rows = (page) => page.locator('.events > li');

/** Watches the events of one child: other tests send some too. */
async function watch(page, line, child) {
  await page.goto(`${line.origin}/inspect/`);
  await page.getByLabel('An API key of scope admin').fill(adminKey);
  await page.getByRole('button', { name: 'Watch' }).click();
  await expect(live(page)).toHaveText('Live');
  await page.getByLabel('Child', { exact: true }).fill(child);
  await page.getByRole('button', { name: 'Filter' }).click();
  await expect(live(page)).toHaveText('Live');
  await expect(page.locator('h2')).toHaveText('Nothing has arrived since you look');
}

/** A dry run of a child that nobody knows. */
const knock = (child, events = 1, more = {}) =>
  post(Array.from({ length: events }, () => answerOf(child, more)), '?dry_run=true');

async function newChild() {
  const [parent, child] = [randomUUID(), randomUUID()];
  await register(`parents/${parent}`, { timezone: 'Europe/Rome', consents: { coppa: true, analytics: true } });
  await register(`children/${child}`, { parent_id: parent, age_group: 'wonder_cubs' });
  return child;
}

test('each event with its answer and where it went', async ({ page, line }) => {
  const child = await newChild();
  await watch(page, line, child);
  const id = randomUUID();
  await send([{ ...answerOf(child), id }]);
  await expect(rows(page).first()).toContainText('counted');
  await post([answerOf(child, { rating: 9, note: 'my name is Tim' })]);
  await knock(randomUUID());
  await expect(rows(page)).toHaveCount(2);
  await expect(rows(page).first()).toContainText('invalid_field /data/rating');

  await rows(page).first().locator('summary').click();
  const open = rows(page).first();
  await expect(open.locator('dl')).toContainText('unknown_field:data.note');
  await expect(open.locator('dl')).toContainText(child);
  await expect(open.locator('pre')).toContainText('dry_run=true');
  await expect(page.locator('html')).not.toContainText('Tim');
  await rows(page).last().locator('summary').click();
  const details = rows(page).last().locator('dl');
  await expect(details).toContainText(id);
  await expect(details).toContainText('partition');
  await expect(details).toContainText('not in the history yet');
});

test('what is copied is answered alike', async ({ page, line, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const child = randomUUID();
  await watch(page, line, child);
  await knock(child, 1, { rating: 9 });
  await rows(page).first().locator('summary').click();
  await rows(page).first().getByRole('button', { name: 'Copy' }).click();
  await expect(rows(page).first().getByRole('button')).toHaveText('Copied');
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(copied).toContain('"$RIVULET_INGEST_URL/v1/events?dry_run=true"');
  expect(copied).toContain('$RIVULET_INGEST_KEY');
  expect(copied).not.toContain(ingestKey);
  const { events } = JSON.parse(/-d '(.*)'/s.exec(copied)[1]);
  const { results: [result], dry_run: dry } = await post(events, '?dry_run=true');
  expect([result.code, result.pointer, dry]).toEqual(['invalid_field', '/data/rating', true]);
});

test('paused, it keeps what comes for later', async ({ page, line }) => {
  const child = randomUUID();
  await watch(page, line, child);
  await page.getByRole('button', { name: 'Pause' }).click();
  await expect(live(page)).toHaveText('Paused');
  await knock(child, 2);
  const resume = page.getByRole('button', { name: 'Resume (2 new)' });
  await expect(resume).toBeVisible();
  await expect(rows(page)).toHaveCount(0);
  await resume.click();
  await expect(rows(page)).toHaveCount(2);
});

test('a row keeps the focus when others come', async ({ page, line }) => {
  const child = randomUUID();
  await watch(page, line, child);
  await knock(child);
  await rows(page).first().locator('summary').focus();
  await page.keyboard.press('Enter');
  await expect(rows(page).first().locator('dl')).toBeVisible();
  await knock(child, 2);
  await expect(rows(page)).toHaveCount(3);
  await expect(rows(page).last().locator('summary')).toBeFocused();
  await expect(rows(page).last().locator('dl')).toBeVisible();
  // The form can be filled in without a mouse.
  await page.getByLabel('Code', { exact: true }).focus();
  await page.keyboard.type('too_old');
  await page.keyboard.press('Enter');
  await expect(rows(page)).toHaveCount(0);
  await expect(live(page)).toHaveText('Live');
  await knock(child);
  await post([{ ...answerOf(child), occurred_at: 'today' }], '?dry_run=true');
  await expect(page.locator('h2')).toContainText('Nothing has arrived');
});

test('a thousand rows and no more', async ({ page, line }) => {
  const child = randomUUID();
  await watch(page, line, child);
  for (let batch = 0; batch < 3; batch += 1) await knock(child, 400);
  await expect(rows(page)).toHaveCount(1_000);
});

test('the key is kept for this tab alone', async ({ page, line }) => {
  const seen = [];
  page.on('request', (request) => seen.push(request.url()));
  await watch(page, line, randomUUID());
  seen.push(await page.locator('html').innerHTML(), JSON.stringify(await page.context().cookies()));
  expect(seen.join(' ')).not.toContain(adminKey);
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage }))).not.toContain(adminKey);
  await page.reload();
  await expect(live(page)).toHaveText('Live');
  await page.getByRole('button', { name: 'Forget the key' }).click();
  await expect(page.getByLabel('An API key of scope admin')).toBeFocused();
  expect(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))).not.toContain(adminKey);
});

for (const [whose, key, why] of [['an app’s', ingestKey, 'scope admin'], ['nobody’s', 'rvk_forged', 'unknown or was revoked'],
  ['a parent’s', families.first.token, 'scope admin']]) {
  test(`with ${whose} key it shows nothing, and says why`, async ({ page, line }) => {
    await page.goto(`${line.origin}/inspect/`);
    await page.getByLabel('An API key of scope admin').fill(key);
    await page.getByRole('button', { name: 'Watch' }).click();
    await expect(page.getByRole('alert')).toContainText(why);
    await expect(page.locator('.events')).toHaveCount(0);
  });
}

test('it comes back when the line does', async ({ page, line }) => {
  await watch(page, line, randomUUID());
  await line.cut();
  await expect(live(page)).toContainText('Not connected');
  await line.open();
  await expect(live(page)).toHaveText('Live');
});

for (const scheme of ['light', 'dark']) {
  test(`at 320 px nothing is cut off, ${scheme}`, async ({ page, line }) => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width: 320, height: 640 });
    const child = randomUUID();
    await watch(page, line, child);
    await knock(child, 1, { [`colour${'W'.repeat(60)}`]: 1 });
    await rows(page).first().locator('summary').click();
    await expect(rows(page).first().locator('dl')).toBeVisible();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    expect(wide).toBeLessThanOrEqual(320);
    const names = await page.locator('input, select, button').evaluateAll((fields) => fields
      .filter((field) => !field.labels?.length && !field.textContent.trim() && !field.getAttribute('aria-label')).length);
    expect(names).toBe(0);
  });
}
