// Nobody is kept out: axe on every view, in light and dark, at a desk and on a phone.

import AxeBuilder from '@axe-core/playwright';
import { drawn, enter, expect, families, openChild, test } from './support.js';

const views = {
  'the way in': (page, line) => page.goto(line.origin),
  'the family': (page, line) => enter(page, line, 'four'),
  'a child': async (page, line) => {
    await enter(page, line, 'four');
    await openChild(page, families.four.children[0]);
    await drawn(page);
    await page.getByText('Show as a table: Words').click();
  },
  'a new child': async (page, line) => {
    await enter(page, line, 'new');
    await openChild(page, families.new.children[0]);
    await expect(page.locator('main')).toContainText('Nothing from Child 1 yet');
  },
  'what a number means': async (page, line) => {
    await enter(page, line, 'four');
    await page.locator('.why').first().click();
  },
  'a nickname': async (page, line) => {
    await enter(page, line, 'four');
    await page.locator('.rename').first().click();
  },
};

for (const colorScheme of ['light', 'dark']) {
  for (const [device, viewport] of Object.entries({ desk: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } })) {
    test.describe(`${colorScheme}, ${device}`, () => {
      test.use({ colorScheme, viewport });
      for (const [name, open] of Object.entries(views)) {
        test(`axe finds nothing: ${name}`, async ({ page, line }) => {
          await open(page, line);
          const { violations } = await new AxeBuilder({ page }).analyze();
          expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join('; ')}`)).toEqual([]);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          expect(wide, 'nothing is wider than the screen').toBeLessThanOrEqual(0);
        });
      }
    });
  }
}

test('with reduced motion nothing moves', async ({ page, line }) => {
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await views['a child'](page, line);
  const moving = await page.evaluate(() => [...document.querySelectorAll('*')].filter((one) => {
    const style = getComputedStyle(one);
    return style.animationName !== 'none' || !/^0s(, 0s)*$/.test(style.transitionDuration);
  }).length);
  expect(moving).toBe(0);
});

test('on the narrowest screen, and with letters twice as large, nothing is cut off', async ({ page, line }) => {
  await views['a child'](page, line);
  for (const [width, size] of [[320, '100%'], [1280, '200%']]) {
    await page.setViewportSize({ width, height: 800 });
    await page.evaluate((letters) => { document.documentElement.style.fontSize = letters; }, size);
    await expect(async () => {
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
    }).toPass({ timeout: 5_000 });
  }
});
