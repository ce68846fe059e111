// What an app gets: both forms of modules, types that refuse a wrong event, and a size.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";
import { config, folder, results } from "./support.js";

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

const builders = "start, answer, hint, skip, view, complete, rate, reward, message, speech, session";
const gzipped = (code) => gzipSync(code, { level: 9 }).length;

/** What an app's bundler makes of an import. */
async function bundled(names, minified) {
  const { outputFiles } = await build({
    stdin: { contents: `export { ${names} } from "./dist/index.js";`, resolveDir: root },
    bundle: true,
    minify: minified === "esbuild",
    format: "esm",
    target: "es2022",
    write: false,
  });
  const { text } = outputFiles[0];
  return minified === "esbuild" ? text : (await minify(text, { module: true, compress: { passes: 2 } })).code;
}

// README.md says them too.
const BOUNDS = { terser: 5_120, esbuild: 5_350 };
for (const [minifier, bound] of Object.entries(BOUNDS)) {
  test(`what a page imports is ${bound} bytes at most (${minifier})`, async () => {
    const size = gzipped(await bundled(`open, ${builders}`, minifier));
    const session = gzipped(await bundled(`open, ${builders}, startSession`, minifier)) - size;
    const one = gzipped(await bundled("answer", minifier));
    console.log(`${minifier}: ${size} bytes, ${session} with startSession`);
    assert.ok(size <= bound, `${size} bytes`);
    assert.ok(session < 300, `a session brings ${session} bytes`);
    assert.ok(one < 400, "a builder alone brings more than itself");
  });
}

test("what a page without a bundler imports is as small", async () => {
  const sizes = ["browser", "browser-session"].map((name) =>
    gzipped(readFileSync(join(root, `dist/${name}.min.js`))),
  );
  console.log(`${sizes.join(" and ")} bytes`);
  assert.ok(sizes[0] <= 5_120 && sizes[1] <= 750, `${sizes}`);
  const { open, answer } = await import("../dist/browser.min.js");
  const { startSession } = await import("../dist/browser-session.min.js");
  const sent = [];
  const fetch = async (_, { body }) => {
    if (!body) return Response.json(config());
    const stream = new Response(body).body.pipeThrough(new DecompressionStream("gzip"));
    const { events } = JSON.parse(await new Response(stream).text());
    sent.push(...events.map(({ data, session_id }) => [data.action, session_id]));
    return Response.json(results(events));
  };
  const rivulet = open({ url: "http://rivulet.invalid", credential: "key", automatic: false, fetch });
  const child = rivulet.child("c");
  const session = startSession(child, { kind: "quiz" });
  await child.track(answer({ correct: true }, { sessionId: session.id }));
  await session.end();
  await rivulet.flush();
  await rivulet.close();
  assert.deepEqual(
    sent,
    ["start", "answer", "end"].map((action) => [action, session.id]),
  );
});

test("it has no dependency, and names what it is built with exactly", () => {
  assert.equal(manifest.dependencies, undefined);
  for (const version of Object.values(manifest.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/);
});

test("both forms of modules have every entry", async (t) => {
  const dir = app(t);
  const require = createRequire(join(dir, "app.cjs"));
  for (const [entry, forms] of Object.entries(manifest.exports)) {
    // Those of a page are modules alone.
    if (!forms.require) continue;
    const name = join("@rivulet/sdk", entry);
    const common = Object.keys(require(name))
      .filter((name) => name !== "default")
      .sort();
    writeFileSync(
      join(dir, "app.mjs"),
      `console.log(JSON.stringify(Object.keys(await import("${name}")).sort()))`,
    );
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
    const compilerOptions = {
      strict: true,
      noEmit: true,
      module,
      moduleResolution,
      target: "es2022",
      lib: ["es2022", "dom"],
      types: [],
    };
    writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["app.*"] }));
    const { stdout, status } = spawnSync("node", [join(root, "node_modules/.bin/tsc"), "-p", dir], {
      encoding: "utf8",
    });
    assert.equal(status, 0, stdout);
  });
}
