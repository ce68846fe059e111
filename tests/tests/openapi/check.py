"""Holds the OpenAPI document against roles at work: check.py API INGEST CHILD PARENT
Keys are in READ_KEY, INGEST_KEY and ADMIN_KEY."""

import json
import os
import subprocess
import sys
from pathlib import Path

import requests
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

API, INGEST, CHILD, PARENT = sys.argv[1:]
HERE = Path(__file__).parent
READ = {"Authorization": f"Bearer {os.environ['READ_KEY']}"}


def strict(schema):
    """The schema without a place for what it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and "enum" not in schema:
        schema.setdefault("additionalProperties", False)
    return schema


def validator(document, name):
    root = {"$ref": f"#/components/schemas/{name}", "components": strict(document["components"])}
    return Draft202012Validator(root, format_checker=FormatChecker())


def answer(path):
    response = requests.get(API + path, headers=READ, timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def first_update(path):
    with requests.get(API + path, headers=READ, stream=True, timeout=30) as response:
        for line in response.iter_lines():
            if line.startswith(b"data:"):
                return json.loads(line.removeprefix(b"data:"))
    raise AssertionError(f"{path} ended without an event")


def is_true(base, key, *tags):
    """Whether Schemathesis finds nothing to say of the operations with these tags."""
    environment = os.environ | {"KEY": key, "CHILD": CHILD, "PARENT": PARENT}
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(Path(sys.prefix) / "hypothesis")
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{API}/openapi.json"]
    command += ["--url", base, *(word for tag in tags for word in ("--include-tag", tag))]
    return subprocess.run(command, cwd=HERE, env=environment).returncode == 0


# Both roles tell the same, and to whoever has it only that.
told = [requests.get(f"{role}/openapi.json", timeout=10) for role in (API, INGEST)]
document = told[0].json()
assert told[1].json() == document
assert told[0].headers["ETag"] == told[1].headers["ETag"]
known = {"If-None-Match": told[0].headers["ETag"]}
assert requests.get(f"{INGEST}/openapi.json", headers=known, timeout=10).status_code == 304
OpenAPIV31SpecValidator(document).validate()

# Nothing is answered that the document does not name.
child = f"/v1/children/{CHILD}"
day = answer(f"{child}/daily")
assert day["days"], "the child has no day to look at"
assert answer(f"{child}/topics")["topics"] and answer(f"{child}/learning")["metrics"]
for path, name in [
    (f"{child}/daily", "Daily"),
    (f"{child}/learning?period=weekly", "Learning"),
    (f"{child}/streak", "Streak"),
    (f"{child}/topics", "ChildTopics"),
    (f"/v1/families/{PARENT}", "Family"),
]:
    validator(document, name).validate(answer(path))
for path in [f"{child}/live", f"/v1/families/{PARENT}/live"]:
    validator(document, "Update").validate(first_update(path))
bad = {"type": "session", "id": "x"}
sent = requests.post(
    f"{INGEST}/v1/events",
    json={"events": [bad, []]},
    headers={"Authorization": f"Bearer {os.environ['INGEST_KEY']}"},
    timeout=10,
)
assert sent.json()["rejected"] == 2, sent.text
validator(document, "Receipt").validate(sent.json())

# An operation that is in no run would be checked by nobody.
tags = {tag for path in document["paths"].values() for of in path.values() if "tags" in of for tag in of["tags"]}
assert tags == {"reading", "events", "registry", "operations", "inspecting"}, tags
runs = [
    is_true(API, os.environ["READ_KEY"], "reading", "operations"),
    is_true(INGEST, os.environ["INGEST_KEY"], "events", "operations"),
    is_true(INGEST, os.environ["ADMIN_KEY"], "registry", "inspecting"),
]
assert all(runs), runs
