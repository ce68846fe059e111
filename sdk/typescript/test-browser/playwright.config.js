import { execFileSync } from "node:child_process";
import { defineConfig } from "@playwright/test";

const onPath = (name) => {
  try {
    return execFileSync("which", [name], { encoding: "utf8" }).trim();
  } catch {
    return undefined;
  }
};

export default defineConfig({
  testDir: ".",
  outputDir: "../failures",
  workers: 1,
  reporter: [["list"]],
  timeout: 60_000,
  expect: { timeout: 20_000 },
  use: {
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? onPath("chromium") ?? onPath("google-chrome"),
      args: [
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
      ],
    },
  },
});
