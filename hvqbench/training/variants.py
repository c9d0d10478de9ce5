"""The specification of an ablation: variants of one training, each with a few keys changed.

A TOML file. Its tables ``[tokenizer]`` and ``[index_model]`` hold what all variants share: ``base``, a ``train.toml``,
and keys that override it. Each ``[[variant]]`` has a ``name`` and tables of the same two names, whose keys override
those in turn. A variant with a table ``tokenizer`` trains that first and an index model on it; the others train one
on the tokenizer that their base names. Paths are relative to the file. ``docs/ablations.md`` has the keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvqbench.catalog import read_toml
from hvqbench.errors import HvqbenchError
from hvqbench.training.index_model import read_training
from hvqbench.training.loop import read_config
from hvqbench.training.tokenizer import TokenizerTraining
from hvqbench.vq.hub import PREFIX

KINDS = ("tokenizer", "index_model")
PATHS = ("base", "start", "tokenizer")
"""Keys of the two tables whose values are paths."""


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Parameters
    ----------
    index_model, tokenizer
        ``base`` and the keys that override it, paths made absolute; *tokenizer* is None where none is trained.
    after
        The name of an earlier variant, on whose tokenizer and from whose weights this one goes on.
    changes
        The keys of its own, as text.
    """

    name: str
    index_model: Mapping[str, Any]
    tokenizer: Mapping[str, Any] | None
    after: str
    changes: str

    def index_training(self, **given: str) -> tuple[Path, dict[str, Any]]:
        """The index model's ``train.toml`` and what overrides it: the keys *given* (that are not empty) above all."""
        overrides = {**self.index_model, **{key: value for key, value in given.items() if value}}
        return Path(overrides.pop("base")), overrides

    def tokenizer_training(self) -> tuple[Path, dict[str, Any]]:
        """The tokenizer's ``train.toml`` and what overrides it: the one that ``keep`` names is trained alone."""
        overrides = dict(self.tokenizer or {})
        base, keep = Path(overrides.pop("base")), overrides.pop("keep", {})
        known = {table["name"]: table for table in read_toml(base).get("tokenizer", [])}
        if keep.get("name") not in known:
            names = ", ".join(known)
            raise HvqbenchError(
                f"variant {self.name!r} keeps no tokenizer: write keep = {{ name = ... }}, one of {names}"
            )
        return base, {**overrides, "tokenizer": [{**known[keep["name"]], **keep}]}


@dataclass(frozen=True)
class VariantTable:
    """A table ``[[variant]]`` of the file."""

    name: str = ""
    after: str = ""
    tokenizer: Mapping[str, Any] | None = None
    index_model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SpecificationTable:
    """The file as it is written."""

    dataset: str = "kodak"
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    index_model: Mapping[str, Any] = field(default_factory=dict)
    variant: tuple[VariantTable, ...] = ()


@dataclass(frozen=True)
class Specification:
    """A parsed file; *dataset* is what the variants are measured on."""

    dataset: str
    variants: tuple[Variant, ...]


def read_specification(path: Path) -> Specification:
    """Parse *path* and check it, down to the keys that a variant overrides: training takes long enough."""
    content = read_config(SpecificationTable, path)
    shared = {kind: _absolute(getattr(content, kind), path) for kind in KINDS}
    variants: dict[str, Variant] = {}
    for table in content.variant:
        own = {kind: {**shared[kind], **_absolute(getattr(table, kind) or {}, path)} for kind in KINDS}
        tokenizer = own["tokenizer"] if table.tokenizer is not None else None
        variant = Variant(table.name, own["index_model"], tokenizer, table.after, _changes(table))
        _check(path, variant, variants)
        variants[table.name] = variant
    if not variants:
        raise HvqbenchError(f"{path} has no [[variant]], so there is nothing to train; docs/ablations.md shows one")
    return Specification(content.dataset, tuple(variants.values()))


def _check(path: Path, variant: Variant, earlier: Mapping[str, Variant]) -> None:
    name = variant.name
    if not re.fullmatch(r"\w[\w.-]*", name) or name in earlier or name == "indices":
        raise HvqbenchError(f"{path}: {name!r} names no variant; give each its own name, of letters, digits and . _ -")
    if variant.after and variant.after not in earlier:
        raise HvqbenchError(f"{path}: {name!r} comes after {variant.after!r}, which is no variant above it")
    if variant.after and variant.tokenizer is not None:
        raise HvqbenchError(
            f"{path}: {name!r} comes after {variant.after!r} and shares its tokenizer; leave out its own"
        )
    for kind, table in (("tokenizer", variant.tokenizer), ("index_model", variant.index_model)):
        if table is not None and "base" not in table:
            raise HvqbenchError(f"{path}: the {kind} of {name!r} has no base; name a train.toml there or in [{kind}]")
    if variant.tokenizer is not None:
        read_config(TokenizerTraining, *variant.tokenizer_training())
    read_training(*variant.index_training(tokenizer="trained before"))


def _absolute(table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """*table* with its paths made absolute from the folder of *path*."""
    values = dict(table)
    for key in PATHS:
        if values.get(key) and not str(values[key]).startswith(PREFIX):
            values[key] = str((path.parent / values[key]).resolve())
    return values


def _changes(table: VariantTable) -> str:
    """What a variant changes: ``bias = false, steps = 3``."""
    values = {key: value for kind in KINDS for key, value in (getattr(table, kind) or {}).items() if key != "base"}
    words = [f"{key} = {str(value).lower() if isinstance(value, bool) else value}" for key, value in values.items()]
    return ", ".join([*words, f"after {table.after}"] if table.after else words)
