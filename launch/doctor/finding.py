"""A finding: what was looked at, how it is, and how to mend it."""

import os
from dataclasses import dataclass
from typing import Literal

from launch import settings

SHORTEST = 6  # characters of a secret; a shorter value may be any word


@dataclass(frozen=True)
class Finding:
    """level: "stop" where a run cannot start or would be damaged, "note" where something may be missed, else "ok".
    message: what there is and, unless it is ok, how to mend it; one line, without the values of secrets in the
    environment (an error of another program may quote them)."""

    level: Literal["ok", "note", "stop"]
    name: str
    message: str

    def __post_init__(self):
        message = " ".join(self.message.split())
        for name, value in os.environ.items():
            if settings.SECRET_NAME.search(name) and len(value) >= SHORTEST:
                message = message.replace(value, f"[{name}]")
        message = "".join(character if character.isprintable() else "?" for character in message)
        object.__setattr__(self, "message", message)
