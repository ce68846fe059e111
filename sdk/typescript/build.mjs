// dist/: each entry as ESM and CommonJS, and its types for both; and what a page without a bundler imports.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { minify } from "terser";

const root = new URL(".", import.meta.url).pathname;
const entries = ["index", "node", "react-native", "fake"];

rmSync(`${root}dist`, { recursive: true, force: true });
execFileSync("npx", ["tsc", "-p", root], { stdio: "inherit" });
for (const name of readdirSync(`${root}dist`)) {
  const types = readFileSync(`${root}dist/${name}`, "utf8").replace(
    /from "(\.\/[^"]+)\.js"/g,
    'from "$1.cjs"',
  );
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

// One file each, of what `index` has.
const builders = "start, answer, hint, skip, view, complete, rate, reward, message, speech, session";
const pages = { browser: `open, ${builders}`, "browser-session": "startSession" };
for (const [name, exported] of Object.entries(pages)) {
  const from = `export { ${exported} } from "./index.js";\n`;
  const { outputFiles } = await build({
    stdin: { contents: from, resolveDir: `${root}dist` },
    bundle: true,
    format: "esm",
    target: "es2022",
    write: false,
  });
  const { code } = await minify(outputFiles[0].text, { module: true, compress: { passes: 2 } });
  writeFileSync(`${root}dist/${name}.min.js`, code);
  writeFileSync(`${root}dist/${name}.d.ts`, from);
}
