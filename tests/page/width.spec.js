// Nothing is wider than the screen: every view, on every screen, whatever the app sends, from left to right and back.

import { answerOf, drawn, enter, expect, families, openChild, send, test, tokenWith } from './support.js';

const { wordy } = families;
const WIDTHS = [320, 390, 768, 1024, 1280];

/** What the page says, in letters of another script: the words it would have in Hebrew are not ours to write. */
async function inHebrew(page, line) {
  const source = await (await fetch(`${line.origin}/page/text.js`)).text();
  const names = [...source.matchAll(/^export const (\w+)/gm)].map(([, name]) => name).filter((name) => name !== 'language');
  const body = `import * as english from '/page/english.js';
    const letter = (one) => String.fromCharCode(0x5d0 + (one.toLowerCase().charCodeAt(0) - 97));
    const turned = (value) => {
      if (typeof value === 'string') return value.replace(/[a-z]/gi, letter);
      if (typeof value === 'function') return (...given) => turned(value(...given));
      return Array.isArray(value) ? value.map(turned)
        : Object.fromEntries(Object.entries(value).map(([name, one]) => [name, turned(one)]));
    };
    export const language = 'he';
    ${names.map((name) => `export const ${name} = turned(english.${name});`).join('\n')}`;
  await page.route('**/page/*/text.js', (route) => route.fulfill({ contentType: 'text/javascript', body }));
  await page.route('**/page/english.js', (route) => route.fulfill({ contentType: 'text/javascript', body: source }));
}

/** Opens all that can be opened. */
const unfold = (page) => page.evaluate(() => {
  for (const one of document.querySelectorAll('details')) one.open = true;
  for (const one of document.querySelectorAll('[aria-expanded=false]')) one.click();
});

const child = (more) => async (page, line) => {
  await enter(page, line, 'wordy');
  await openChild(page, wordy.children[0], more);
  await drawn(page);
  await expect(page.locator('.topics tbody tr').first()).toBeVisible();
  await unfold(page);
};

const fails = (status) => async (page, line) => {
  await page.route(/\/v1\/families\//, (route) => route.fulfill({ status, body: '' }));
  await enter(page, line, 'wordy', { live: false });
  await expect(page.locator('.calm h1')).toBeVisible();
};

const views = {
  'the way in': async (page, line) => {
    await page.goto(line.origin);
    await page.locator('summary').click();
    await page.locator('#token').fill('w'.repeat(400));
    await page.locator('form button').click();
    await expect(page.locator('#token-hint strong')).toBeVisible();
  },
  'no family': (page, line) => enter(page, line, 'wordy', { live: false, token: tokenWith({
    sub: '00000000-0000-4000-8000-000000000000', exp: Math.floor(Date.now() / 1000) + 600,
  }) }),
  'a visit that ended': fails(401),
  'a service that rests': fails(503),
  'no children': (page, line) => enter(page, line, 'none', { live: false }),
  'the family': (page, line) => enter(page, line, 'wordy'),
  'a child of another family': async (page, line) => {
    await enter(page, line, 'wordy');
    await openChild(page, families.four.children[0]);
  },
  'a new child': async (page, line) => {
    await enter(page, line, 'new');
    await openChild(page, families.new.children[0]);
    await expect(page.locator('.card.nothing')).toBeVisible();
  },
  'a child, 4 weeks': child('&span=month'),
  // Of whom there is more than is shown.
  'a child of many names': async (page, line) => {
    await enter(page, line, 'many');
    await openChild(page, families.many.children[0]);
    await drawn(page);
    await expect(page.locator('.topics tbody tr').first()).toBeVisible();
    await unfold(page);
  },
  'a child, 4 weeks before': child('&span=month&back=1'),
  'a child, 3 months': child('&span=quarter'),
  'a child, 1 year': child('&span=year'),
  'a child, all': child('&span=all'),
  'a child, nothing then': async (page, line) => {
    await enter(page, line, 'wordy');
    await openChild(page, wordy.children[0], '&span=year&back=7');
    await expect(page.locator('.back .card.nothing')).toBeVisible();
  },
  // In the middle of a week, last week is there twice.
  'a child on a Wednesday': async (page, line) => {
    const today = new Date(`${wordy.today}T00:00:00Z`);
    today.setUTCDate(today.getUTCDate() - 7 - ((today.getUTCDay() + 4) % 7));
    await page.route(/\/v1\/families\/[^/]+$/, async (route) => {
      const answer = await route.fetch();
      route.fulfill({ json: { ...await answer.json(), today: today.toISOString().slice(0, 10) } });
    });
    await child('')(page, line);
    await expect(page.locator('.weeks thead th')).toHaveCount(4);
  },
  'what a number means': async (page, line) => {
    await child('')(page, line);
    await page.locator('.why').last().click();
    await expect(page.locator('#meaning')).toBeVisible();
  },
  'a nickname': async (page, line) => {
    await enter(page, line, 'wordy');
    await page.locator('.rename').first().click();
    await expect(page.locator('dialog')).toBeVisible();
  },
};

/** What stands out of the screen or of its card, but for what its own box scrolls. */
const outside = (page, width) => page.evaluate((wide) => [...document.querySelectorAll('body *')].filter((one) => {
  const { left, right, height } = one.getBoundingClientRect();
  const seen = one.checkVisibility() && height > 0 && !one.closest('.hidden') && !one.parentElement.closest('.scroll');
  const card = one.closest('.card')?.getBoundingClientRect() ?? { left: 0, right: wide };
  return seen && (left < card.left - 0.5 || right > card.right + 0.5);
}).map((one) => `${one.localName}.${one.className?.baseVal ?? one.className}: ${one.textContent.slice(0, 30)}`), width);

const desk = {};
const phone = { isMobile: true, hasTouch: true };
const all = Object.keys(views);
const screens = [
  ['a desk', desk, 'en-GB', all],
  ['a phone', phone, 'en-GB', all],
  ['a phone', phone, 'he-IL', all],
  // As on the phone, so of each kind one.
  ['a desk', desk, 'he-IL', ['the way in', 'the family', 'a child, 4 weeks', 'what a number means']],
];

for (const [device, use, locale, names] of screens) {
  test.describe(`${device}, ${locale}`, () => {
    test.use({ ...use, locale, viewport: { width: WIDTHS[0], height: 844 } });
    for (const name of names) {
      test(`as wide as the screen: ${name}`, async ({ page, line }) => {
        if (locale === 'he-IL') await inHebrew(page, line);
        // As long as the field lets it be.
        await page.addInitScript((children) => {
          for (const one of children) localStorage.setItem(`rivulet.nickname.${one}`, 'W'.repeat(30));
        }, wordy.children);
        await views[name](page, line);
        await expect(page.locator('html')).toHaveAttribute('dir', locale === 'he-IL' ? 'rtl' : 'ltr');
        for (const width of WIDTHS) {
          await page.setViewportSize({ width, height: 844 });
          await expect(async () => {
            expect(await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth])).toEqual([width, width]);
            expect(await outside(page, width)).toEqual([]);
          }).toPass({ timeout: 5_000 });
        }
      });
    }
  });
}

test('what an app sends through ingest is no wider', async ({ page, line }) => {
  await page.setViewportSize({ width: 320, height: 844 });
  await enter(page, line, 'spoken');
  const [one] = families.spoken.children;
  await openChild(page, one);
  const long = 'W'.repeat(100);
  await send([answerOf(one, { subject: long, topic: long, badge: long })]);
  await expect(page.locator('.topics tbody th')).toHaveText(long);
  await expect(page.locator('.subjects tbody th')).toHaveText(long);
  await expect(page.locator('.badges li')).toContainText(long);
  await expect(page.locator('.about bdi')).toHaveText(long);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);
  expect(await outside(page, 320)).toEqual([]);
});

test.describe('from right to left', () => {
  test.use({ locale: 'he-IL' });

  const x = async (locator) => (await locator.boundingBox()).x;

  test('the page is its own mirror', async ({ page, line }) => {
    await inHebrew(page, line);
    await child('')(page, line);
    await expect(page.locator('html')).toHaveAttribute('lang', 'he');
    expect(await x(page.locator('.brand'))).toBeGreaterThan(await x(page.locator('header .quiet')));
    expect(await x(page.locator('.avatar'))).toBeGreaterThan(await x(page.locator('.head .age')));
    const [first, last] = [page.locator('.calendar thead th').first(), page.locator('.calendar thead th').last()];
    expect(await x(first)).toBeGreaterThan(await x(last));
    // The scale of a chart is where its first day is.
    const plot = await page.locator('bar-chart').first().boundingBox();
    const bars = await page.locator('bar-chart .u-over').first().boundingBox();
    expect(bars.x - plot.x).toBeLessThan(plot.x + plot.width - bars.x - bars.width);
  });

  test('a date among words that run the other way stays whole', async ({ page, line }) => {
    await enter(page, line, 'four');
    await openChild(page, families.four.children[0]);
    await expect(page.locator('html')).toHaveAttribute('dir', 'ltr');
    const range = page.locator('.bar .turn p');
    const [day, year] = await range.evaluate((one) => {
      const text = [...one.childNodes].find((node) => node.nodeType === Node.TEXT_NODE && /\d/.test(node.data));
      const at = (from, to) => {
        const part = document.createRange();
        part.setStart(text, from);
        part.setEnd(text, to);
        return part.getBoundingClientRect().left;
      };
      const first = text.data.search(/\d/);
      const last = text.data.search(/\d{4}\D*$/);
      return [at(first, first + 1), at(last, last + 4)];
    });
    // In Hebrew the day comes first, which is on the right.
    expect(day).toBeGreaterThan(year);
  });
});
