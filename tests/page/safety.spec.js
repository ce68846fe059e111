// Who gets in, what leaves, and how much comes.

import { drawn, enter, expect, families, openChild, test, tokenWith } from './support.js';

const { four, other } = families;
const now = () => Math.floor(Date.now() / 1000);

test('another family’s token shows nothing of this one', async ({ page, line }) => {
  await enter(page, line, 'other');
  await expect(page.locator('.children > li')).toHaveCount(1);
  // By its address, with the right page and the wrong parent.
  await openChild(page, four.children[0]);
  await expect(page.locator('h1')).toHaveText('This child is not in your family’s list.');
  const text = await page.locator('html').innerHTML();
  for (const child of four.children) expect(text.replace(page.url(), '')).not.toContain(`child=${child}`);
  const status = await page.evaluate(async ([child, token]) => {
    const answer = await fetch(`/v1/children/${child}/daily`, { headers: { Authorization: `Bearer ${token}` } });
    return answer.status;
  }, [four.children[0], other.token]);
  expect(status).toBe(404);
});

test('a token that has expired, is forged or is for nobody', async ({ page, line }) => {
  const expired = tokenWith({ sub: four.parent, iat: now() - 7200, exp: now() - 3600 });
  await enter(page, line, 'four', { token: expired, live: false });
  await expect(page.locator('h1')).toHaveText('This visit has ended');
  const forged = `${four.token.slice(0, -6)}aaaaaa`;
  await page.goto('about:blank');
  await enter(page, line, 'four', { token: forged, live: false });
  await expect(page.locator('h1')).toHaveText('This visit has ended');
  const nobody = tokenWith({ sub: '00000000-0000-4000-8000-000000000000', iat: now(), exp: now() + 600 });
  await page.goto('about:blank');
  await enter(page, line, 'four', { token: nobody, live: false });
  await expect(page.locator('h1')).toHaveText('There is no family here');
  await page.goto('about:blank');
  await enter(page, line, 'four', { token: 'a.b.c', live: false });
  await expect(page.locator('h1')).toHaveText('Open this page from your app');
});

test('a token that ends while one looks', async ({ page, line }) => {
  await enter(page, line, 'four');
  await page.route('**/v1/**', (route) => route.fulfill({ status: 401, json: { status: 401, code: 'unauthorized' } }));
  await line.cut();
  await line.open();
  await expect(page.locator('h1')).toHaveText('This visit has ended');
  // Nothing of the children is left on the screen.
  await expect(page.locator('.children')).toHaveCount(0);
});

test('the token is seen nowhere', async ({ page, line }) => {
  const seen = [];
  page.on('request', (request) => seen.push(request.url(), request.headers().referer ?? ''));
  await enter(page, line, 'four');
  await openChild(page, four.children[0]);
  seen.push(page.url(), await page.locator('html').innerHTML(), JSON.stringify(await page.context().cookies()));
  expect(seen.join(' ')).not.toContain(four.token);
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage }))).not.toContain(four.token);
  await page.goBack();
  expect(page.url()).not.toContain('token');
});

test('the page obeys its policy, which lets nothing in or out', async ({ page, line }) => {
  const answer = await page.goto(line.origin);
  const policy = answer.headers()['content-security-policy'];
  for (const rule of ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]) {
    expect(policy).toContain(rule);
  }
  expect(policy).not.toContain('unsafe');
});

test('a family of four with a year of days is light', async ({ page, line }) => {
  await enter(page, line, 'four');
  const family = line.received;
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
  await openChild(page, four.children[0], '&span=year');
  await drawn(page);
  await expect(page.locator('.topics tbody tr').first()).toBeVisible();
  console.log(`first contentful paint ${Math.round(paint)} ms; on the wire ${family} bytes for the family, `
    + `${line.received} with a year of a child`);
  expect(line.received).toBeLessThan(300_000);
});
