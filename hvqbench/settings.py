"""One reader for the tables of all TOML files: a frozen dataclass says which keys there are and what they take.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Training:
...     steps: int = 100
>>> read_settings(Training, {"steps": 3}, "train.toml")
Training(steps=3)
>>> read_settings(Training, {"stepps": 3}, "train.toml")
Traceback (most recent call last):
hvqbench.errors.HvqbenchError: train.toml: unknown key 'stepps': did you mean 'steps'? known are steps
>>> read_settings(Training, {"steps": "many"}, "train.toml")
Traceback (most recent call last):
hvqbench.errors.HvqbenchError: train.toml: steps = 'many': input should be a valid integer; correct it
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from hvqbench.errors import HvqbenchError, closest

T = TypeVar("T")


def read_settings(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """*values*, parsed from the TOML table that *where* names, as the dataclass *kind*.

    Types are checked as they are written: no string is taken for a number, and no fraction for a whole one. Arrays
    become tuples where *kind* has them.

    Raises
    ------
    HvqbenchError
        for an unknown, a missing or an ill-typed key.
    """
    from pydantic import ValidationError

    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    known = [field.name for field in fields]
    for key in values:
        if key not in known:
            raise HvqbenchError(f"{where}: unknown key {key!r}: {closest(key, known)}known are {', '.join(known)}")
    try:
        # Strict as JSON is: from Python objects "strict" would also refuse a list for a tuple.
        return _reader(kind).validate_json(  # type: ignore[arg-type]
            json.dumps(dict(values), default=str), strict=True
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = first["msg"][:1].lower() + first["msg"][1:]
        if first["type"] == "missing" and place in known:
            raise HvqbenchError(f"{where}: the key {place!r} is missing; known are {', '.join(known)}") from None
        raise HvqbenchError(f"{where}: {place} = {first['input']!r}: {reason}; correct it") from None


@cache
def _reader(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
