"""What Schemathesis must be told of Rivulet."""

import json

import schemathesis
from hypothesis import strategies

# The parser's word on an event. What the registry and the clock say is not in the document.
INVALID = {"invalid_json", "unknown_type", "missing_field", "invalid_field"}


# What `date-time` is. Schemathesis sends nothing else where the document says so.
TIMES = strategies.datetimes().map(lambda time: f"{time.isoformat(timespec='milliseconds')}Z")
schemathesis.openapi.format("rfc3339", TIMES)


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    return {"data": value.encode() if isinstance(value, str) else json.dumps(value).encode()}


@schemathesis.hook
def map_body(ctx, body):
    """To JSON Schema 1.0 is an integer. To Rivulet it is not, as the document says in prose."""
    if isinstance(body, dict):
        return {key: map_body(ctx, value) for key, value in body.items()}
    if isinstance(body, list):
        return [map_body(ctx, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


@schemathesis.check
def what_the_document_calls_an_event_is_one(ctx, response, case):
    """An event is never invalid to the server that is valid by the document."""
    if case.path != "/v1/events" or case.media_type != "application/json":
        return
    if response.status_code != 200 or not case.meta.generation.mode.is_positive:
        return
    refused = [one for one in response.json()["results"] if one.get("code") in INVALID]
    assert not refused, f"valid by the document, refused by the server: {refused}"


@schemathesis.check
def a_refusal_is_one_that_the_document_names(ctx, response, case):
    """The codes of a status are the names of its examples: the schema is the same for all."""
    # Whether the status is described at all is another check's question.
    described = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    if "application/problem+json" not in described.get("content", {}):
        return
    named = described["content"]["application/problem+json"]["examples"]
    problem = response.json()
    assert problem["status"] == response.status_code, problem
    assert problem["code"] in named, f"{problem['code']} is none of {sorted(named)}"
