"""Sends the events of a children's learning app to Rivulet, and loses none in silence.

::

    with rivulet.open(url="https://events.example", credential=token, dir="/var/lib/app/rivulet") as client:
        client.child(child_id).answer(correct=True, subject="math")
"""

from ._client import Child, Credential, Error, InUse, Progress, Rejected, Rivulet, Session, Stats, open
from ._event import Attributes, Event, Id
from .events import Builders, Platform, Role, SessionKind


class _Make(Builders[Event]):
    def track(self, event: Event) -> Event:
        return event


#: Makes events and tracks none: `rivulet.event.answer(correct=True)`.
event = _Make()

__all__ = [
    "Attributes",
    "Builders",
    "Child",
    "Credential",
    "Error",
    "Event",
    "Id",
    "InUse",
    "Platform",
    "Progress",
    "Rejected",
    "Rivulet",
    "Role",
    "Session",
    "SessionKind",
    "Stats",
    "event",
    "open",
]
