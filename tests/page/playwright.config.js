import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  outputDir: 'failures',
  workers: 2,
  reporter: [['list']],
  timeout: 90_000,
  expect: { timeout: 30_000 },
  use: {
    locale: 'en-GB',
    // Not a zone of any family here: days are the family's, not the browser's.
    timezoneId: 'America/New_York',
    screenshot: 'only-on-failure',
    launchOptions: {
      executablePath: process.env.CHROMIUM,
      args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--no-first-run'],
    },
  },
});
