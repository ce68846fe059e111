"""The client against a server on loopback."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest
from pathlib import Path
from typing import Any
from uuid import UUID

import rivulet

from .server import Server, nothing, rejected

CHILD = UUID("0f9e8d7c-2222-4222-8333-444444444444")

QUICKSTART = Path(__file__).parents[3] / "docs/quickstart/python.md"

PROGRAM = """
import sys, rivulet
client = rivulet.open(url=sys.argv[1], credential="key", dir=sys.argv[2])
client.child(sys.argv[3]).view(subject="math")
"""


class ClientTest(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.addCleanup(self.server.close)
        self._dir = tempfile.TemporaryDirectory()
        self.addCleanup(self._dir.cleanup)
        self.dir = f"{self._dir.name}/store"
        logging.getLogger("rivulet").setLevel(logging.CRITICAL)

    def open(self, **options: Any) -> rivulet.Rivulet:
        settings: dict[str, Any] = {"url": self.server.url, "credential": "key", "dir": self.dir, **options}
        client = rivulet.open(**settings)
        self.addCleanup(client.close)
        return client

    def test_an_event_goes_out_as_it_was_made(self) -> None:
        with self.open(device_id="d-1", platform="other", app_version="4.12.1") as client:
            child = client.child(str(CHILD))
            event_id = child.answer(
                correct=True, subject="math", response_time_ms=2300, attributes={"experiment": "b"}
            )
            self.assertEqual(client.flush(), rivulet.Progress(0, None, None))
            stats = client.stats()
        (event,) = self.server.events
        occurred_at = event.pop("occurred_at")
        self.assertRegex(occurred_at, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            event,
            {
                "id": event_id,
                "type": "interaction",
                "child_id": str(CHILD),
                "device": {"id": "d-1", "platform": "other", "app_version": "4.12.1"},
                "attributes": {"experiment": "b"},
                "data": {
                    "action": "answer",
                    "is_correct": True,
                    "subject": "math",
                    "response_time_ms": 2300,
                },
            },
        )
        self.assertEqual((stats.queued, stats.accepted, stats.rejected, stats.dropped), (0, 1, {}, {}))

    def test_the_client_sends_by_itself(self) -> None:
        client = self.open(flush_interval=1)
        client.child(CHILD).view()
        self.server.wait_for(1)

    def test_a_session_tells_of_itself_and_its_events_belong_to_it(self) -> None:
        with self.open() as client:
            with client.child(CHILD).session(kind="learning") as lesson:
                lesson.view(subject="math")
                lesson.pause()
                lesson.resume()
            lesson.end()
            client.flush()
        said = [(event["type"], event["data"]["action"]) for event in self.server.events]
        steps = ["start", "pause", "resume", "end"]
        self.assertEqual(
            said, [("session", "start"), ("interaction", "view"), *[("session", of) for of in steps[1:]]]
        )
        self.assertEqual({event["session_id"] for event in self.server.events}, {lesson.id})
        self.assertEqual(self.server.events[0]["data"], {"action": "start", "kind": "learning"})

    def test_what_the_server_refuses_is_told(self) -> None:
        told: list[rivulet.Rejected] = []
        client = self.open(on_rejected=told.append)
        self.server.script = [(200, {}, rejected("unknown_child", "/child_id"))]
        event_id = client.child(CHILD).hint()
        client.flush()
        self.assertEqual(told, [rivulet.Rejected(event_id or "", "unknown_child", "/child_id", "wrong")])
        self.assertEqual(client.stats().rejected, {"unknown_child": 1})

    def test_what_is_dropped_is_told_and_counted(self) -> None:
        told: list[tuple[str, int]] = []
        client = self.open(on_dropped=lambda reason, count: told.append((reason, count)))
        client.set_consent(coppa=False)
        self.assertIsNone(client.child(CHILD).skip())
        client.set_consent(coppa=True, audio=False)
        self.assertIsNone(client.child(CHILD).speech(audio_session_id=CHILD, window_ms=1000))
        self.assertIsNotNone(client.child(CHILD).skip())
        self.assertEqual(told, [("consent", 1), ("consent", 1)])
        self.assertEqual(client.stats().dropped, {"consent": 2})

    def test_what_is_no_event_does_not_raise(self) -> None:
        told: list[tuple[str, int]] = []
        client = self.open(on_dropped=lambda reason, count: told.append((reason, count)))
        self.assertIsNone(client.track("no-uuid", rivulet.event.view()))
        self.assertIsNone(client.track(CHILD, rivulet.event.view(session_id="no-uuid")))
        self.assertEqual(told, [("invalid", 1)] * 2)
        self.assertEqual(client.stats().dropped, {"invalid": 2})

    def test_what_json_has_no_word_for_loses_no_event(self) -> None:
        client = self.open()
        client.child(CHILD).view(confidence=float("nan"), topic="half \ud83d of it, whole \U0001f600")
        client.flush()
        self.assertEqual(
            self.server.events[0]["data"], {"action": "view", "topic": "half ? of it, whole \U0001f600"}
        )

    def test_a_token_is_asked_for_again_when_it_is_refused(self) -> None:
        tokens = iter(["old", "new"])
        client = self.open(credential=lambda: next(tokens))
        self.server.script = [(401, {}, nothing)]
        client.child(CHILD).view()
        client.flush()
        self.assertEqual(self.server.tokens, ["Bearer old", "Bearer new"])
        self.assertEqual(client.stats().accepted, 1)

    def test_a_credential_that_is_refused_stops_until_there_is_another(self) -> None:
        told: list[str] = []
        stopped = threading.Event()

        def on_stopped(reason: str, message: str) -> None:
            told.append(reason)
            stopped.set()

        client = self.open(on_stopped=on_stopped)
        self.server.script = [(403, {}, nothing)]
        client.child(CHILD).view()
        self.assertEqual(client.flush().stopped, "forbidden")
        stopped.wait()
        client.set_credential("other")
        client.flush()
        self.assertEqual(told, ["forbidden"])
        self.assertEqual(self.server.tokens, ["Bearer key", "Bearer other"])

    def test_a_credential_that_raises_is_none(self) -> None:
        client = self.open(credential=lambda: 1 / 0)
        client.child(CHILD).view()
        self.assertEqual(client.flush().queued, 1)
        client.set_credential("key")
        self.assertEqual(client.flush().queued, 0)

    def test_a_callback_that_raises_ends_nothing(self) -> None:
        client = self.open(on_rejected=lambda _: 1 / 0)
        self.server.script = [(200, {}, rejected("too_old", ""))]
        client.child(CHILD).view()
        client.flush()
        client.child(CHILD).view()
        client.flush()
        self.assertEqual((client.stats().accepted, client.stats().rejected), (1, {"too_old": 1}))

    def test_the_server_says_for_how_long_to_wait(self) -> None:
        client = self.open()
        self.server.script = [(503, {"Retry-After": "7"}, nothing)]
        client.child(CHILD).view()
        left = client.flush()
        self.assertEqual(left.queued, 1)
        assert left.wait_ms is not None
        # A part of it may have passed.
        self.assertGreater(left.wait_ms, 1000)
        self.assertLessEqual(left.wait_ms, 8400)
        client.flush()
        self.assertEqual(len(self.server.bodies), 1)

    def test_a_store_has_one_client_and_keeps_what_was_not_sent(self) -> None:
        client = self.open(url="http://127.0.0.1:9")
        event_id = client.child(CHILD).view()
        with self.assertRaisesRegex(rivulet.InUse, "another client has this store"):
            self.open()
        session = client.child(CHILD).session()
        self.assertTrue(client.close())
        self.assertIsNone(client.child(CHILD).view())
        session.end()
        with self.assertRaises(rivulet.Error):
            client.stats()
        self.open().flush()
        self.assertEqual(self.server.events[0]["id"], event_id)
        self.assertEqual(
            [event["type"] for event in self.server.events], ["interaction", "session", "session"]
        )

    def test_a_session_of_a_closed_client_does_nothing(self) -> None:
        client = self.open()
        client.close()
        with client.child(CHILD).session() as session:
            self.assertIsNone(session.view())
        with self.assertRaises(rivulet.Error):
            client.flush()

    def test_settings_have_a_range(self) -> None:
        settings: list[dict[str, Any]] = [
            {"url": "events.example"},
            {"max_events": 0},
            {"max_bytes": 1},
            {"flush_interval": 0},
        ]
        for wrong in settings:
            with self.subTest(wrong), self.assertRaises(ValueError):
                self.open(**wrong)
        with self.assertRaises(ValueError):
            self.open().child("no-uuid")

    def test_a_program_that_ends_sends_what_it_told(self) -> None:
        subprocess.run([sys.executable, "-c", PROGRAM, self.server.url, self.dir, str(CHILD)], check=True)
        (event,) = self.server.events
        self.assertEqual(event["data"], {"action": "view", "subject": "math"})

    def test_the_quickstart_works_as_pasted(self) -> None:
        (block,) = re.findall(r"```python\n(.*?)```", QUICKSTART.read_text(), re.DOTALL)
        program = f"{self._dir.name}/first.py"
        Path(program).write_text(textwrap.dedent(block))
        env = {
            **os.environ,
            "RIVULET_INGEST_URL": self.server.url,
            "RIVULET_INGEST_KEY": "key",
            "CHILD": str(CHILD),
        }
        env["PYTHONPATH"] = str(Path(rivulet.__file__).parents[1])
        run = subprocess.run(
            [sys.executable, program], cwd=self._dir.name, env=env, capture_output=True, text=True
        )
        self.assertIn("accepted=3", run.stdout, run.stderr)
        self.assertEqual(
            [event["type"] for event in self.server.events], ["session", "interaction", "session"]
        )


if __name__ == "__main__":
    unittest.main()
