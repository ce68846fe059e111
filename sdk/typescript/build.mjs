// dist/: each entry as ESM and CommonJS, and its types for both.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const root = new URL(".", import.meta.url).pathname;
const entries = ["index", "node", "react-native", "fake"];

rmSync(`${root}dist`, { recursive: true, force: true });
execFileSync("npx", ["tsc", "-p", root], { stdio: "inherit" });
for (const name of readdirSync(`${root}dist`)) {
  const types = readFileSync(`${root}dist/${name}`, "utf8").replace(/from "(\.\/[^"]+)\.js"/g, 'from "$1.cjs"');
  writeFileSync(`${root}dist/${name.replace(/\.ts$/, ".cts")}`, types);
}
for (const format of ["esm", "cjs"]) {
  await build({
    entryPoints: entries.map((entry) => `${root}src/${entry}.ts`),
    outdir: `${root}dist`,
    outExtension: { ".js": format === "esm" ? ".js" : ".cjs" },
    bundle: true,
    format,
    target: "es2022",
    platform: "neutral",
    external: ["node:*"],
    logLevel: "warning",
  });
}
