"""The official Python client against the door: check.py PORT"""

import datetime
import sys
import uuid

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

PORT = int(sys.argv[1])


def connect(**options):
    return clickhouse_connect.get_client(host="127.0.0.1", port=PORT, **options)


def refused(code, call):
    try:
        call()
    except DatabaseError as error:
        assert error.code == code and f"Code: {code}." in str(error), error
    else:
        raise AssertionError(f"no error {code}")


ROWS = [
    [1, uuid.UUID(int=7), datetime.date(2026, 1, 2), "é\t'\n", None, ["a", "b"], {"k": 1.5}],
    [2, uuid.UUID(int=8), datetime.date(2026, 1, 3), "", True, [], {}],
]
COLUMNS = ["id", "u", "d", "s", "b", "l", "m"]

for compress in [False, "lz4", "zstd", "gzip"]:
    client = connect(compress=compress)
    client.command("CREATE DATABASE IF NOT EXISTS py")
    client.command(
        "CREATE OR REPLACE TABLE py.t (id UInt64, u UUID, d Date, s String, b Nullable(Bool),"
        " l Array(LowCardinality(String)), m Map(String, Float64))"
        " ENGINE = ReplacingMergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100"
    )
    summary = client.insert("py.t", ROWS, column_names=COLUMNS)
    assert summary.written_rows == 2, summary.summary
    got = client.query("SELECT * FROM py.t ORDER BY id")
    assert [list(row) for row in got.result_rows] == ROWS, got.result_rows
    assert list(got.column_names) == COLUMNS

    for _ in range(2):
        client.insert("py.t", [[3]], column_names=["id"], settings={"insert_deduplication_token": "x"})
    assert client.command("SELECT count() FROM py.t") == 3

    # Larger than the door's buffer, and in many blocks.
    big = [[number, f"row {number}"] for number in range(10, 200_010)]
    client.insert("py.t", big, column_names=["id", "s"])
    with client.query_row_block_stream("SELECT id, s FROM py.t WHERE id >= 10 ORDER BY id") as blocks:
        assert [list(row) for block in blocks for row in block] == big

client = connect(database="py")
parameters = {"id": 2, "s": "it's {a} \\ test\t\n", "l": ["x'", "y"]}
for form in [False, True]:
    client = connect(database="py", form_encode_query_params=form)
    got = client.query("SELECT {id:UInt64}, {s:String}, {l:Array(String)}", parameters=parameters)
    assert got.result_rows == [(2, parameters["s"], parameters["l"])], got.result_rows

client.raw_insert("t", ["id", "s"], b"900001,a\n900002,b\n", fmt="CSV")
client.command("INSERT INTO t (id, s) VALUES", data="(900003, 'c'), (900004, 'd')")
assert client.raw_query("SELECT s FROM t WHERE id > 900000 ORDER BY id", fmt="TSV") == b"a\nb\nc\nd\n"
assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 3}).result_rows == [(3,)]

refused(60, lambda: client.query("SELECT * FROM missing"))
refused(62, lambda: client.command("SELEC"))
refused(81, lambda: connect(database="missing").query("SELECT 1"))
refused(395, lambda: client.query("SELECT throwIf(number = 5) FROM numbers(10)"))
refused(60, lambda: client.insert("missing", [[1]], column_names=["id"], column_type_names=["UInt64"]))

client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
client.insert("mine", [[1]], column_names=["a"], column_type_names=["UInt8"])
assert client.command("SELECT sum(a) FROM mine") == 1
refused(60, lambda: connect(database="py").query("SELECT * FROM mine"))

assert client.ping()
client.command("DROP DATABASE py SYNC")
print("python: ok")
