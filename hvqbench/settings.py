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
hvqbench.errors.HvqbenchError: train.toml: steps = 'many': set it to a whole number
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from hvqbench.errors import HvqbenchError, closest

T = TypeVar("T")

REMEDIES = {
    "int_type": "set it to a whole number",
    "int_from_float": "set it to a whole number",
    "float_type": "set it to a number",
    "string_type": "set it to text in quotes",
    "bool_type": "set it to true or false",
    "tuple_type": "make it a list, in square brackets",
    "dataclass_type": "write it as a table",
    "dict_type": "write it as a table",
}
"""What to do about a value of another type, by pydantic's names of errors."""


def read_settings(kind: type[T], values: Mapping[str, Any], where: str, **given: Any) -> T:
    """*values*, parsed from the TOML table that *where* names, as the dataclass *kind*.

    Types are checked as they are written: no string is taken for a number, and no fraction for a whole one. Arrays
    become tuples where *kind* has them, and tables the dataclasses that it has there. What is *given* besides is no key
    of the table.

    Raises
    ------
    HvqbenchError
        for an unknown, a missing or an ill-typed key, and what ``__post_init__`` of *kind* refuses.
    """
    from pydantic import ValidationError

    _check_keys(kind, values, where, given)
    try:
        # Strict as JSON is: from Python objects "strict" would also refuse a list for a tuple.
        text = json.dumps({**values, **given}, default=str)
        return _reader(kind).validate_json(text, strict=True)  # type: ignore[arg-type]
    except HvqbenchError as error:
        raise HvqbenchError(f"{where}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        *outer, last = [str(part) for part in first["loc"]]
        place = ": ".join([where, *(part for part in outer if not part.isdigit())])
        if first["type"] == "missing":
            raise HvqbenchError(f"{place}: the key {last!r} is missing{_choices(kind, first['loc'])}") from None
        if last.isdigit():  # of a list
            place, last = ": ".join(place.split(": ")[:-1]), outer[-1]
        hint = ""
        if first["type"] == "literal_error":
            choices = first["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
            hint = closest(str(first["input"]), choices.split(", "))
            remedy = f"set it to one of {choices}"
        else:
            remedy = REMEDIES.get(first["type"]) or f"{first['msg'][:1].lower()}{first['msg'][1:]}; correct it"
        raise HvqbenchError(f"{place}: {last} = {first['input']!r}: {hint}{remedy}") from None


def _check_keys(kind: Any, values: Mapping[str, Any], where: str, given: Mapping[str, Any]) -> None:
    """Raise on a key that *kind*, or a dataclass that it has for that key, does not know."""
    known = [field.name for field in dataclasses.fields(kind) if field.name not in given]
    types = get_type_hints(kind)
    for key, value in values.items():
        if key not in known:
            raise HvqbenchError(f"{where}: unknown key {key!r}: {closest(key, known)}known are {', '.join(known)}")
        if table := _table(types[key]):
            for own in value if isinstance(value, list) else [value]:
                if isinstance(own, Mapping):
                    _check_keys(table, own, f"{where}: {key}", {})


def _table(kind: Any) -> Any:
    """The dataclass in the type of a key, which may be one, or a list of it; None if there is none."""
    if dataclasses.is_dataclass(kind):
        return kind
    return next((found for part in get_args(kind) if (found := _table(part))), None)


def _choices(kind: Any, place: tuple[int | str, ...]) -> str:
    """What a key that is missing at *place* can be, or its neighbours."""
    table = kind
    for key in [key for key in place[:-1] if isinstance(key, str)]:
        table = _table(get_type_hints(table)[key])
    choices = [choice for choice in get_args(get_type_hints(table)[str(place[-1])]) if isinstance(choice, str)]
    if choices:
        return f"; set it to one of {', '.join(choices)}"
    return f"; known are {', '.join(field.name for field in dataclasses.fields(table))}"


@cache
def _reader(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
