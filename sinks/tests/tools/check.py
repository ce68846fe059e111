"""Runs dashboards/dbt and the commands of docs/warehouse.md against a ClickHouse.

check.py DATABASE ROOT, with CLICKHOUSE_URL; DATABASE is migrated, filled and counted. sinks/tests/sink/tools.rs runs it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import yaml
from dbt.cli.main import dbtRunner

database, root = sys.argv[1], Path(sys.argv[2])
address = urlsplit(os.environ["CLICKHOUSE_URL"])
client = clickhouse_connect.get_client(host=address.hostname, port=address.port, database=database)
project = root / "dashboards/dbt"
work = Path(tempfile.mkdtemp())


def number(sql):
    return client.query(sql).result_rows[0][0]


def dbt(*arguments):
    # In the database of the test, which is dropped with it.
    os.environ["DBT_DATABASE"] = database
    done = dbtRunner().invoke([
        *arguments, "--quiet", "--project-dir", str(project), "--profiles-dir", str(project),
        "--target-path", str(work / "target"), "--log-path", str(work), "--vars", f"{{rivulet: {database}}}",
    ])
    failed = [f"{one.node.name}: {one.status} {one.message}" for one in getattr(done.result, "results", [])
              if one.status not in ("pass", "success")]
    assert done.success and not failed, (arguments, failed, done.exception)
    return done.result.results


KIND = {"t-a": "interaction", "t-b": "session"}
RECEIVED = datetime(2026, 3, 2, 10, tzinfo=timezone.utc)


def event(name, partition, offset, *, since=1_000_000, topic="t-a", incarnation="c/1", child=1, day="2026-03-02", late=0,
          badge="x"):
    """A row of `events`; `late` is how many hours before the others it was received, `since` where offsets begin."""
    ident = uuid.uuid5(uuid.NAMESPACE_OID, name)
    received = (RECEIVED + timedelta(seconds=offset) - timedelta(hours=late)).isoformat(sep=" ", timespec="milliseconds")[:23]
    return (f"('{ident}','{KIND[topic]}','{day}',toUUID('00000000-0000-0000-0000-{child:012}'),'{received}','{received}',"
            f"'{day}','wonder_cubs','{badge}','{topic}',{partition},{since + offset},'{incarnation}')")


def insert(*events):
    client.command("INSERT INTO events (event_id, event_type, id_day, child_id, event_time, received_at, local_date, age_group,"
                   " badge, kafka_topic, kafka_partition, kafka_offset, topic_incarnation) VALUES " + ",".join(events))


def load(told):
    """Brings the copy up to date, and it is what the history is."""
    dbt("run", "--select", "events_copy")
    for one, other in (("history", "events_copy"), ("events_copy", "history")):
        rows = client.query(f"SELECT toString(tuple(event_type, child_id, event_id, id_day)), count() FROM {one}"
                            f" WHERE toString(tuple(*)) NOT IN (SELECT toString(tuple(*)) FROM {other}) GROUP BY 1").result_rows
        assert not rows, f"{told}: in {one} alone: {rows[:5]}"
    count, distinct = client.query("SELECT count(), uniqExact(event_type, child_id, event_id, id_day) FROM events_copy").result_rows[0]
    assert count == distinct == number("SELECT count() FROM history"), f"{told}: {count} rows of {distinct} events"
    return count


def update_descriptions():
    """Writes what ClickHouse says of each column into sources.yml."""
    path = project / "models/sources.yml"
    tables = re.split(r"(?m)^(      - name: \w+)$", path.read_text())
    for at in range(1, len(tables), 2):
        told = dict(client.query("SELECT name, comment FROM system.columns WHERE database = currentDatabase() AND table = "
                                 f"'{tables[at].split()[-1]}'").result_rows)
        tables[at + 1] = re.sub(r'(- name: "?([\w.]+)"?\n +description: ).*',
                                lambda column: column[1] + json.dumps(told.get(column[2], column[0])), tables[at + 1])
    path.write_text("".join(tables))


def sources_say_what_clickhouse_says():
    if "RIVULET_UPDATE_DOCS" in os.environ:
        update_descriptions()
    for table in yaml.safe_load((project / "models/sources.yml").read_text())["sources"][0]["tables"]:
        said = [(column["name"], column["description"]) for column in table["columns"]]
        told = client.query("SELECT name, comment FROM system.columns WHERE database = currentDatabase() AND table = "
                            f"'{table['name']}' ORDER BY position").result_rows
        assert said == told, f"{table['name']}: {set(said) ^ set(told)}: RIVULET_UPDATE_DOCS=1 writes the descriptions"


def a_project_that_builds():
    results = dbt("build")
    assert len(results) > 30, len(results)
    weeks, days = number("SELECT sum(events) FROM child_weeks"), number("SELECT sum(events) FROM child_days")
    assert weeks == days > 0, (weeks, days)
    client.command("INSERT INTO events (event_id, event_type, age_group, received_at) VALUES "
                   "(generateUUIDv4(), 'session', 'wonder_cubs', now64(3))")
    results = dbt("source", "freshness")
    assert [one.node.name for one in results] == ["history"]


def each_event_once_whatever_comes_when():
    client.command("SYSTEM STOP MERGES events")
    before = load("what was there")
    insert(*[event(f"a{n}", 0, n) for n in range(10)], *[event(f"b{n}", 1, n, child=2) for n in range(6)],
           *[event(f"s{n}", 0, n, topic="t-b") for n in range(4)])
    assert load("new partitions") == before + 20
    # Out of a spill: received long before what is there already.
    insert(*[event(f"a{n}", 0, n, late=30) for n in range(10, 20)])
    assert number("SELECT count() FROM events_copy WHERE received_at < (SELECT max(received_at) FROM events_copy)") > 0
    assert load("out of a spill") == before + 30
    # Of one insert the part of a month shows before the part of another.
    insert(event("b6", 1, 6, child=2), event("b8", 1, 8, child=2))
    assert load("half an insert") == before + 32
    insert(event("b7", 1, 7, child=2, day="2030-01-01"))
    assert load("the other half") == before + 33
    # A repetition that differs is not shown; it never was new.
    insert(event("a3", 0, 20, badge="another"))
    # The partitions of the topic were made more: a copy elsewhere is shown in place of the first.
    insert(event("a15", 2, 0, since=0, badge="moved"))
    assert number("SELECT count() FROM history WHERE badge = 'moved'") == 1
    assert load("copies") == before + 33
    # The topic was made anew: offsets begin again, with some that were there before and some that were not.
    anew = {"since": 0, "incarnation": "c/2"}
    insert(*[event(f"a{n}", 0, n - 5, **anew) for n in range(5, 8)], event("c0", 0, 3, **anew))
    assert load("another incarnation") == before + 34
    insert(event("c1", 0, 4, late=50, **anew))
    assert load("more of it") == before + 35
    # Deletes are merges of their own.
    client.command("SYSTEM START MERGES events")
    client.command("ALTER TABLE events DELETE WHERE child_id = '00000000-0000-0000-0000-000000000002' SETTINGS mutations_sync = 2")
    assert load("after an erasure") == before + 26


def the_commands_of_the_page():
    page = (root / "docs/warehouse.md").read_text()
    # The name of the database aside, as they stand there.
    blocks = [(kind, text.replace("rivulet.", f"{database}."))
              for kind, text in re.findall(r"```(sh|sh no-run|python)\n(.*?)```", page.split("## Parquet and DuckDB")[1], re.S)]
    folder = work / "parquet"
    folder.mkdir()
    printed = ""
    for kind, text in blocks:
        if kind == "sh no-run":
            continue
        command = ["sh", "-eu", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "│" in printed, printed
    import duckdb
    there = duckdb.sql(f"SELECT count(*), count(DISTINCT event_id) FROM '{folder}/history.parquet'").fetchall()[0]
    month = number("SELECT count() FROM history WHERE local_date >= today() - 28 AND"
                   " (id_day >= today() - 28 - 35 OR id_day = '1970-01-01')")
    assert there == (month, month) and month > 0, (there, month)


sources_say_what_clickhouse_says()
a_project_that_builds()
each_event_once_whatever_comes_when()
the_commands_of_the_page()
