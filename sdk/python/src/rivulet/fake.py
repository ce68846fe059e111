"""For an app's tests: a client without a server, a store or a thread.

::

    client = rivulet.fake.open()
    lesson_of(client)
    client.assert_tracked(rivulet.event.answer(correct=True))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from ._client import Credential, Progress, Rivulet, Stats
from ._event import Attributes, Event, Id
from .events import SessionKind


@dataclass(frozen=True)
class Tracked:
    """An event as it would be sent."""

    id: str
    child_id: str
    type: str
    data: Mapping[str, object]
    session_id: str | None = None
    attributes: Attributes = field(default_factory=dict)


class FakeRivulet(Rivulet):
    """A client that keeps what the app tracks. `flush` takes all of it as accepted."""

    def __init__(self) -> None:
        #: What was tracked, in order.
        self.events: list[Tracked] = []
        self._accepted = 0
        self._dropped: Counter[str] = Counter()
        self._coppa = self._audio = True
        self._closed = False

    def track(self, child_id: Id, event: Event) -> str | None:
        if self._closed:
            return None
        if not self._coppa or (event.type == "speech" and not self._audio):
            self._dropped["consent"] += 1
            return None
        session = None if event.session_id is None else str(event.session_id)
        tracked = Tracked(
            str(uuid4()), str(child_id), event.type, event.data, session, event.attributes or {}
        )
        self.events.append(tracked)
        return tracked.id

    def flush(self) -> Progress:
        self._accepted = len(self.events)
        return Progress(0, None, None)

    def stats(self) -> Stats:
        return Stats(len(self.events) - self._accepted, 0, self._accepted, {}, dict(self._dropped))

    def set_consent(self, *, coppa: bool | None = None, audio: bool | None = None) -> None:
        self._coppa = self._coppa if coppa is None else coppa
        self._audio = self._audio if audio is None else audio

    def set_credential(self, credential: Credential) -> None:
        pass

    def background(self) -> None:
        pass

    def foreground(self) -> None:
        pass

    def close(self, within: float = 5.0) -> bool:
        self._closed = True
        return True

    def assert_tracked(self, expected: Event, child_id: Id | None = None) -> Tracked:
        """The first event with all the fields of `expected`, and of this child where one is given. Fails
        with the events of that type and what each lacks, if there is none."""
        for event in self.events:
            if not _lacks(event, expected, child_id):
                return event
        seen = [
            f"  {_lacks(event, expected, child_id)}" for event in self.events if event.type == expected.type
        ]
        of_type = "\n".join(seen) or f"  none among {len(self.events)} events"
        raise AssertionError(f"no {expected.type} with {dict(expected.data)}:\n{of_type}")

    def assert_not_tracked(self, expected: Event, child_id: Id | None = None) -> None:
        """Fails if there is such an event."""
        for event in self.events:
            if not _lacks(event, expected, child_id):
                raise AssertionError(f"there is such an event: {event}")

    def _begin(self, child_id: UUID, kind: SessionKind | None) -> _Session:
        return _Session(self, child_id, kind)


def open() -> FakeRivulet:
    """Opens a client without a server."""
    return FakeRivulet()


class _Session:
    def __init__(self, rivulet: FakeRivulet, child_id: UUID, kind: SessionKind | None) -> None:
        self._rivulet = rivulet
        self._child_id = child_id
        self._kind = kind
        self._id = str(uuid4())
        self._ended = False
        self._tell("start")

    def id(self) -> str:
        return self._id

    def pause(self) -> None:
        self._tell("pause")

    def resume(self) -> None:
        self._tell("resume")

    def end(self) -> None:
        self._tell("end")
        self._ended = True

    def _tell(self, action: str) -> None:
        if not self._ended:
            event = Event("session", {"action": action, "kind": self._kind}, self._id)
            self._rivulet.track(self._child_id, event)


def _lacks(event: Tracked, expected: Event, child_id: Id | None) -> list[str]:
    """The fields that an event lacks."""
    wanted: dict[str, object] = {"type": expected.type}
    if child_id is not None:
        wanted["child_id"] = str(child_id)
    if expected.session_id is not None:
        wanted["session_id"] = str(expected.session_id)
    lacks = [
        f"{name} is {getattr(event, name)!r}, not {value!r}"
        for name, value in wanted.items()
        if getattr(event, name) != value
    ]
    for where, fields in (("data", expected.data), ("attributes", expected.attributes or {})):
        there = getattr(event, where)
        lacks += [
            f"{where}.{name} is {there.get(name)!r}, not {value!r}"
            for name, value in fields.items()
            if there.get(name) != value
        ]
    return lacks
