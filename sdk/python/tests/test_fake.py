"""The fake has the client's ways, and assertions."""

from __future__ import annotations

import unittest
from uuid import UUID

import rivulet
import rivulet.fake

CHILD = UUID("0f9e8d7c-2222-4222-8333-444444444444")
OTHER = UUID("0f9e8d7c-2222-4222-8333-555555555555")


def lesson(client: rivulet.Rivulet) -> None:
    """An app."""
    with client.child(CHILD).session(kind="quiz") as session:
        session.answer(correct=True, subject="math", attributes={"experiment": "b"})


class FakeTest(unittest.TestCase):
    def setUp(self) -> None:
        self.client = rivulet.fake.open()

    def test_it_finds_what_was_tracked(self) -> None:
        lesson(self.client)
        answer = self.client.assert_tracked(rivulet.event.answer(correct=True), CHILD)
        self.assertEqual(answer.data, {"action": "answer", "is_correct": True, "subject": "math"})
        start, _, end = self.client.events
        self.assertEqual(
            (start.data, end.data), ({"action": "start", "kind": "quiz"}, {"action": "end", "kind": "quiz"})
        )
        self.assertEqual(answer.session_id, start.session_id)
        self.client.assert_not_tracked(rivulet.event.answer(correct=False))
        self.client.assert_not_tracked(rivulet.event.answer(correct=True), OTHER)

    def test_it_says_what_is_missing(self) -> None:
        lesson(self.client)
        with self.assertRaisesRegex(AssertionError, "data.is_correct is True, not False"):
            self.client.assert_tracked(rivulet.event.answer(correct=False))
        with self.assertRaisesRegex(AssertionError, "attributes.experiment is 'b', not 'a'"):
            self.client.assert_tracked(rivulet.event.answer(correct=True, attributes={"experiment": "a"}))
        with self.assertRaisesRegex(AssertionError, "none among 3 events"):
            self.client.assert_tracked(
                rivulet.event.message(conversation_id=CHILD, sequence=1, role="user")
            )
        with self.assertRaises(AssertionError):
            self.client.assert_not_tracked(rivulet.event.answer(correct=True))

    def test_it_counts_as_the_client_does(self) -> None:
        with self.client as client:
            client.child(CHILD).view()
            client.set_consent(coppa=False)
            self.assertIsNone(client.child(CHILD).view())
            client.set_consent(coppa=True, audio=False)
            self.assertIsNone(client.child(CHILD).speech(audio_session_id=CHILD, window_ms=1000))
            self.assertEqual((client.stats().queued, client.stats().dropped), (1, {"consent": 2}))
            self.assertEqual(client.flush().queued, 0)
            self.assertEqual(client.stats().accepted, 1)
        self.assertIsNone(client.child(CHILD).view())


if __name__ == "__main__":
    unittest.main()
