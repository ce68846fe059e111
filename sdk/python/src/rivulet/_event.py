"""An event, before it is tracked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

#: A UUID, or its text.
Id = UUID | str

#: For analysts: at most 16; strings have at most 256 characters.
Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Event:
    """What a method of :data:`rivulet.event` makes, for :meth:`rivulet.Child.track` and a fake's
    assertions."""

    #: `interaction`, `message`, `speech` or `session`.
    type: str
    #: Its fields by their names on the wire. What is None, or no number though it is a float, is left out.
    data: Mapping[str, object]
    #: The session that it belongs to.
    session_id: Id | None = None
    #: For analysts.
    attributes: Attributes | None = None

    def __post_init__(self) -> None:
        said = {name: _plain(value) for name, value in self.data.items()}
        object.__setattr__(self, "data", {name: value for name, value in said.items() if value is not None})


def _plain(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
