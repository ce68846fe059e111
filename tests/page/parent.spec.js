// What a parent does.

import { drawn, enter, expect, fact, families, openChild, test } from './support.js';

const { four } = families;

test('signs in, and sees the children side by side', async ({ page, line }) => {
  await enter(page, line, 'four');
  expect(page.url()).toBe(`${line.origin}/`);
  const cards = page.locator('.children > li');
  await expect(cards).toHaveCount(4);
  for (const [index, card] of (await cards.all()).entries()) {
    await expect(card.locator('h2')).toHaveText(`Child ${index + 1}`);
    // On a Monday the week is empty: they were there until yesterday.
    await expect(card.locator('section').last()).toContainText(/Days active|Nothing yet this week/);
  }
  await page.reload();
  await expect(cards).toHaveCount(4);
  // A tab of its own has to be opened by the app again.
  const other = await page.context().newPage();
  await other.goto(line.origin);
  await expect(other.locator('h1')).toHaveText('Open this page from your app');
});

test('pastes a token, and leaves', async ({ page, line }) => {
  await page.goto(line.origin);
  await page.getByText('I have a token').click();
  await page.getByLabel('Token').fill('nonsense');
  await page.getByRole('button', { name: 'Open' }).click();
  await expect(page.locator('#token-hint')).toContainText('This is not a token');
  await page.getByLabel('Token').fill(` ${four.token}\n`);
  await page.getByRole('button', { name: 'Open' }).click();
  await expect(page.locator('.children > li')).toHaveCount(4);
  await page.getByRole('button', { name: 'Leave' }).click();
  await expect(page.locator('h1')).toHaveText('Open this page from your app');
  await page.reload();
  await expect(page.locator('h1')).toHaveText('Open this page from your app');
});

test('gives a nickname, which this browser keeps and nobody else gets', async ({ page, line }) => {
  const sent = [];
  page.on('request', (request) => sent.push(`${request.url()} ${JSON.stringify(request.headers())} ${request.postData()}`));
  await enter(page, line, 'four');
  await page.getByRole('button', { name: 'Give Child 2 a nickname' }).click();
  await expect(page.getByRole('dialog')).toContainText('sent nowhere');
  await page.keyboard.type('Zoë <b>');
  await page.keyboard.press('Enter');
  const card = page.locator('.children > li').nth(1);
  await expect(card.locator('h2')).toHaveText('Zoë <b>');
  await page.reload();
  await expect(card.locator('h2')).toHaveText('Zoë <b>');
  await card.getByRole('link', { name: 'Look closer at Zoë <b>’s days' }).click();
  await expect(page.locator('h1')).toHaveText('Zoë <b>');
  await expect(page).toHaveTitle('Zoë <b> – Your family');
  expect(sent.join()).not.toMatch(/Zo(ë|%C3%AB)/i);
  await page.getByRole('button', { name: 'Change the nickname of Zoë <b>' }).click();
  await page.getByRole('textbox').fill('');
  await page.getByRole('button', { name: 'Keep' }).click();
  await expect(page.locator('h1')).toHaveText('Child 2');
});

test('asks what a number means', async ({ page, line }) => {
  await enter(page, line, 'four');
  const meaning = page.locator('#meaning');
  const why = page.getByRole('button', { name: 'What does “Days active” mean?' }).first();
  await why.click();
  await expect(meaning).toContainText('Only opening the app does not count');
  await page.locator('h1').click();
  await expect(meaning).toBeHidden();
  // With the keyboard: the answer has the focus, and gives it back.
  await why.focus();
  await page.keyboard.press('Enter');
  await expect(meaning).toBeFocused();
  await page.keyboard.press('Escape');
  await expect(meaning).toBeHidden();
  await expect(why).toBeFocused();
  // Every one of them has an answer.
  await openChild(page, four.children[0]);
  await drawn(page);
  for (const button of await page.locator('.why').all()) {
    await button.click();
    await expect(meaning.locator('p')).not.toBeEmpty();
    await page.keyboard.press('Escape');
  }
});

test('goes through all of it with the keyboard alone', async ({ page, line }) => {
  await enter(page, line, 'four');
  const press = async (key, until) => {
    for (let times = 0; times < 200; times += 1) {
      await page.keyboard.press(key);
      const focus = await page.evaluate(() => {
        const { activeElement: at } = document;
        return at.ariaLabel ?? at.innerText ?? '';
      });
      if (until.test(focus)) return;
    }
    throw new Error(`${until} is not reached`);
  };
  await press('Tab', /^Skip to the numbers/);
  await page.keyboard.press('Enter');
  await press('Tab', /Look closer at Child 1/);
  await page.keyboard.press('Enter');
  await expect(page.locator('h1')).toBeFocused();
  await expect(page.locator('h1')).toHaveText('Child 1');
  await page.getByRole('radio', { name: '4 weeks' }).focus();
  await page.keyboard.press('ArrowRight');
  await expect(page).toHaveURL(/span=quarter/);
  await expect(page.getByRole('radio', { name: '3 months' })).toBeFocused();
  await press('Tab', /Earlier$/);
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/back=1/);
  await press('Tab', /Show as a table/);
  await page.keyboard.press('Enter');
  await expect(page.getByRole('region', { name: 'Time in the app' }).getByRole('row')).toHaveCount(14);
});

test('opens a child and goes back in time', async ({ page, line }) => {
  await enter(page, line, 'four');
  await page.getByRole('link', { name: /Child 3/ }).click();
  await expect(page.locator('h1')).toHaveText('Child 3');
  const shown = page.locator('.bar .turn p');
  const first = await shown.textContent();
  await page.getByRole('button', { name: 'Earlier', exact: true }).click();
  await expect(shown).not.toHaveText(first);
  await drawn(page);
  await expect(page.locator('.subjects tbody tr')).toHaveCount(4);
  await page.reload();
  await expect(page).toHaveURL(/back=1/);
  await page.getByRole('button', { name: 'Later', exact: true }).click();
  await expect(shown).toHaveText(first);
  await expect(page.getByRole('button', { name: 'Later', exact: true })).toBeDisabled();
  await page.getByLabel('1 year').check();
  await page.getByText('Show as a table: Time in the app').click();
  await expect(page.getByRole('region', { name: 'Time in the app' }).locator('tbody tr')).toHaveCount(12);
  await page.goBack();
  await page.goBack();
  await expect(page).toHaveURL(/back=1/);
  await page.getByRole('link', { name: 'All children' }).click();
  await expect(page.locator('.children > li')).toHaveCount(4);
});

test('reads days in a row, and which of them a freeze kept', async ({ page, line }) => {
  await enter(page, line, 'four');
  // Child 1 was active on every day of a year but on the third before today.
  await openChild(page, four.children[0]);
  const card = page.locator('.streak');
  const today = new Date(`${four.today}T00:00:00Z`);
  const ago = (days) => new Date(today - days * 86_400_000);
  const cell = async (day) => {
    if (day.getUTCMonth() !== today.getUTCMonth()) await card.getByRole('button', { name: 'Earlier month' }).click();
    const found = card.locator('td').filter({ hasText: new RegExp(`^${day.getUTCDate()}(,|$)`) });
    const said = await found.textContent();
    if (day.getUTCMonth() !== today.getUTCMonth()) await card.getByRole('button', { name: 'Later month' }).click();
    return said;
  };
  await expect(card).toContainText('Freezes');
  expect(await cell(ago(3))).toContain('kept by a freeze');
  expect(await cell(ago(2))).toContain('active');
  expect(await cell(today)).toContain('today');
  const shown = Number((await fact(card, 'Days in a row').textContent()).match(/[\d,]+/)[0].replace(',', ''));
  expect(shown).toBeGreaterThanOrEqual(364);
});

test('reads numbers and dates as at home', async ({ browser, line }) => {
  const context = await browser.newContext({ locale: 'de-DE' });
  const page = await context.newPage();
  await enter(page, line, 'four');
  const day = new Intl.DateTimeFormat('de-DE', { weekday: 'long', day: 'numeric', month: 'long', timeZone: 'UTC' })
    .format(new Date(`${four.today}T00:00:00Z`));
  await expect(page.locator('h1')).toHaveText(day);
  await openChild(page, four.children[0], '&span=year');
  await expect(fact(page.locator('.grid .card').nth(1), 'Answers')).toHaveText(/^\s*\d\.\d{3}\s*$/);
  await context.close();
});
