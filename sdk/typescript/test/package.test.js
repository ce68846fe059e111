// What an app gets: both forms of modules, types that refuse a wrong event, and a size.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { folder } from "./support.js";

const root = new URL("..", import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** An app that has the package. */
function app(t) {
  const dir = folder(t);
  mkdirSync(join(dir, "node_modules/@rivulet"), { recursive: true });
  symlinkSync(root, join(dir, "node_modules/@rivulet/sdk"));
  symlinkSync(join(root, "node_modules/@types"), join(dir, "node_modules/@types"));
  return dir;
}

test("what a page imports is 5 kB at most", async () => {
  const builders = "start, answer, hint, skip, view, complete, rate, reward, message, speech, session";
  const contents = `export { open, ${builders} } from "./dist/index.js";`;
  const options = { bundle: true, minify: true, format: "esm", target: "es2022", write: false };
  const { outputFiles } = await build({ stdin: { contents, resolveDir: root }, ...options });
  const size = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  console.log(`${size} bytes`);
  assert.ok(size <= 5_120, `${size} bytes`);
  const one = `export { answer } from "./dist/index.js";`;
  const shaken = await build({ stdin: { contents: one, resolveDir: root }, ...options });
  assert.ok(gzipSync(shaken.outputFiles[0].contents).length < 400, "a builder alone brings more than itself");
});

test("it has no dependency, and names what it is built with exactly", () => {
  assert.equal(manifest.dependencies, undefined);
  for (const version of Object.values(manifest.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/);
});

test("both forms of modules have every entry", async (t) => {
  const dir = app(t);
  const require = createRequire(join(dir, "app.cjs"));
  for (const entry of Object.keys(manifest.exports)) {
    const name = join("@rivulet/sdk", entry);
    const common = Object.keys(require(name)).filter((name) => name !== "default").sort();
    writeFileSync(join(dir, "app.mjs"), `console.log(JSON.stringify(Object.keys(await import("${name}")).sort()))`);
    const module = JSON.parse(execFileSync("node", [join(dir, "app.mjs")]));
    assert.deepEqual(common, module);
    assert.ok(module.length > 0);
  }
});

const resolutions = { node16: "node16", bundler: "esnext" };
for (const [moduleResolution, module] of Object.entries(resolutions)) {
  test(`a wrong event does not compile (${moduleResolution})`, (t) => {
    const dir = app(t);
    writeFileSync(join(dir, "package.json"), '{ "type": "module" }');
    writeFileSync(join(dir, "app.ts"), readFileSync(join(root, "test/types.ts")));
    if (moduleResolution === "node16") {
      const common = 'import sdk = require("@rivulet/sdk");\nsdk.open({ url: "", credential: "" });\n';
      writeFileSync(join(dir, "app.cts"), common);
    }
    const compilerOptions = { strict: true, noEmit: true, module, moduleResolution, target: "es2022", lib: ["es2022", "dom"], types: [] };
    writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["app.*"] }));
    const { stdout, status } = spawnSync("node", [join(root, "node_modules/.bin/tsc"), "-p", dir], { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  });
}
