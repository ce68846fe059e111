// The official Node client against the door: check.mjs PORT
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { createRequire } from 'node:module'

// The modules are installed elsewhere than this file lies.
const { createClient, ClickHouseError } = createRequire(`${process.cwd()}/`)('@clickhouse/client')

const connect = (options) => createClient({ url: `http://127.0.0.1:${process.argv[2]}`, ...options })
const refused = (call, code, type) =>
  assert.rejects(call, (error) => {
    assert.ok(error instanceof ClickHouseError, error)
    assert.equal(error.code, code)
    assert.equal(error.type, type)
    return true
  })

const ROWS = [
  { id: '1', s: "é\t'\n", n: null, l: ['a', 'b'] },
  { id: '18446744073709551615', s: '', n: true, l: [] },
]
const CH = { output_format_json_quote_64bit_integers: 1 }

for (const compress of [false, true, 'zstd']) {
  const compression = { request: compress, response: compress }
  if (compress === 'zstd') {
    try {
      await connect({ compression }).close()
    } catch {
      continue // This version of the client or of Node has no zstd.
    }
  }
  const client = connect({ compression, clickhouse_settings: CH })
  assert.equal((await client.ping()).success, true)
  await client.command({ query: 'CREATE DATABASE IF NOT EXISTS js' })
  await client.command({
    query: `CREATE OR REPLACE TABLE js.t (id UInt64, s String, n Nullable(Bool), l Array(String))
            ENGINE = ReplacingMergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100`,
  })
  const inserted = await client.insert({ table: 'js.t', values: ROWS, format: 'JSONEachRow' })
  assert.equal(inserted.summary.written_rows, '2')
  assert.ok(inserted.query_id)

  const json = await client.query({ query: 'SELECT * FROM js.t ORDER BY id', format: 'JSON' })
  const document = await json.json()
  assert.deepEqual(document.data, ROWS)
  assert.equal(document.rows, 2)
  const lines = await client.query({ query: 'SELECT * FROM js.t ORDER BY id', format: 'JSONEachRow' })
  assert.deepEqual(await lines.json(), ROWS)

  for (let twice = 0; twice < 2; twice++) {
    await client.insert({
      table: 'js.t',
      values: [['3', 'x']],
      columns: ['id', 's'],
      format: 'JSONCompactEachRow',
      clickhouse_settings: { insert_deduplication_token: 'x' },
    })
  }

  const many = 200_000
  await client.insert({
    table: 'js.t',
    columns: ['id', 's'],
    values: Readable.from(
      (function* () {
        for (let id = 10; id < many + 10; id++) yield { id, s: `row ${id}` }
      })(),
      { objectMode: true },
    ),
    format: 'JSONEachRow',
  })
  const count = await client.query({ query: 'SELECT count() AS c FROM js.t', format: 'JSONEachRow' })
  assert.deepEqual(await count.json(), [{ c: `${many + 3}` }])

  let next = 10
  const all = await client.query({
    query: 'SELECT id, s FROM js.t WHERE id BETWEEN 10 AND 1000000 ORDER BY id',
    format: 'JSONEachRow',
  })
  for await (const rows of all.stream()) {
    for (const row of rows) {
      assert.deepEqual(row.json(), { id: `${next}`, s: `row ${next}` })
      next++
    }
  }
  assert.equal(next, many + 10)
  await client.close()
}

const client = connect({ database: 'js', session_id: 'mine' })
const bound = await client.query({
  query: 'SELECT {id:UInt8} AS id, {s:String} AS s, {l:Array(String)} AS l',
  query_params: { id: 2, s: "it's {a} \\ test\t\n", l: ["x'", 'y'] },
  format: 'JSONEachRow',
})
assert.deepEqual(await bound.json(), [{ id: 2, s: "it's {a} \\ test\t\n", l: ["x'", 'y'] }])

await client.insert({ table: 't', values: Readable.from(['900001,a\n', '900002,b\n'], { objectMode: false }), columns: ['id', 's'], format: 'CSV' })
await client.command({ query: "INSERT INTO t (id, s) VALUES (900003, 'c')" })
const csv = await client.query({ query: 'SELECT s FROM t WHERE id BETWEEN 900000 AND 1000000 ORDER BY id', format: 'CSV' })
assert.equal(await csv.text(), '"a"\n"b"\n"c"\n')

await client.command({ query: 'CREATE TEMPORARY TABLE only (a UInt8)' })
await client.insert({ table: 'only', values: [{ a: 1 }], format: 'JSONEachRow' })
const only = await client.query({ query: 'SELECT a FROM only', format: 'TabSeparated' })
assert.equal(await only.text(), '1\n')

await refused(() => client.query({ query: 'SELECT * FROM missing' }), '60', 'UNKNOWN_TABLE')
await refused(() => client.command({ query: 'selec' }), '62', 'SYNTAX_ERROR')
await refused(() => client.insert({ table: 'missing', values: [{ a: 1 }], format: 'JSONEachRow' }), '60', 'UNKNOWN_TABLE')
await refused(() => connect({ database: 'missing' }).query({ query: 'SELECT 1' }), '81', 'UNKNOWN_DATABASE')
// After the head of the answer has been sent.
await refused(async () => {
  const late = await client.query({
    query: 'SELECT number, throwIf(number = 3000000) FROM numbers(10000000) SETTINGS max_threads = 1',
    format: 'JSONEachRow',
  })
  for await (const rows of late.stream()) assert.ok(rows)
}, '395', 'FUNCTION_THROW_IF_VALUE_IS_NON_ZERO')

await client.command({ query: 'DROP DATABASE js SYNC' })
await client.close()
console.log('node: ok')
