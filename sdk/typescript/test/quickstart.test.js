// What the quickstarts say to paste works as pasted.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { CHILD, folder, scripted } from "./support.js";

const root = new URL("..", import.meta.url).pathname;

/** The blocks of a language in a quickstart. */
function blocks(file, language) {
  const text = readFileSync(join(root, "../../docs/quickstart", file), "utf8");
  const found = [...text.matchAll(/^( *)```(\w+).*\n([^]*?)^\1```$/gm)];
  return found
    .filter((block) => block[2] === language)
    .map(([, indent, , code]) => code.replaceAll(RegExp(`^${indent}`, "gm"), ""));
}

/** A folder that has the package. */
function app(t) {
  const dir = folder(t);
  mkdirSync(join(dir, "node_modules/@rivulet"), { recursive: true });
  symlinkSync(root, join(dir, "node_modules/@rivulet/sdk"));
  return dir;
}

test("node.md", async (t) => {
  const [program] = blocks("node.md", "js");
  assert.ok(program.split("\n").length <= 40);
  const dir = app(t);
  writeFileSync(join(dir, "app.mjs"), program);
  const server = await scripted(t, [
    ({ events }) => [
      200,
      {
        received_at: new Date().toISOString(),
        results: events.map(({ id }, index) => ({ index, id, outcome: "accepted" })),
      },
    ],
  ]);
  const env = { ...process.env, RIVULET_INGEST_URL: server.url, RIVULET_INGEST_KEY: "key", CHILD };
  const { stdout, stderr } = await promisify(execFile)("node", ["app.mjs"], { cwd: dir, env });
  assert.equal(stderr, "");
  assert.deepEqual(JSON.parse(stdout), JSON.parse(blocks("node.md", "json")[0]));
});

test("react-native.md", async (t) => {
  const [program, account, screen] = blocks("react-native.md", "ts");
  assert.ok(program.split("\n").length <= 40);
  const dir = app(t);
  const server = await scripted(t);
  writeFileSync(join(dir, "telemetry.ts"), program);
  const mended = account.replace(/"http:[^"]*"/, JSON.stringify(server.url));
  assert.notEqual(mended, account);
  writeFileSync(join(dir, "account.ts"), mended);
  const stubs = {
    "react-native": `export const AppState = { addEventListener: () => ({ remove() {} }) };
      export const Platform = { OS: "android" };`,
    "@react-native-async-storage/async-storage": `const items = new Map();
      export default { getAllKeys: async () => [...items.keys()],
        getItem: async (key) => items.get(key) ?? null,
        setItem: async (key, value) => void items.set(key, value),
        removeItem: async (key) => void items.delete(key) };`,
  };
  for (const [name, code] of Object.entries(stubs)) {
    mkdirSync(join(dir, "node_modules", name), { recursive: true });
    writeFileSync(join(dir, "node_modules", name, "index.js"), code);
  }
  const use = `import { quiz, rivulet } from "./telemetry";\nexport { rivulet };
    export async function screen(childId: string) {\n${screen}\n await end(); }`;
  const options = { bundle: true, format: "esm", outfile: join(dir, "app.mjs"), logLevel: "error" };
  await build({ stdin: { contents: use, resolveDir: dir, loader: "ts" }, ...options });
  const { rivulet, screen: show } = await import(join(dir, "app.mjs"));
  t.after(() => rivulet.close());
  await show(CHILD);
  await rivulet.flush();
  await rivulet.flush();
  const actions = server.posts.flatMap(({ body }) => body.events.map(({ data }) => data.action));
  assert.deepEqual(actions, ["start", "answer", "end"]);
});
