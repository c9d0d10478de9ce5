"""Finds codecs, data sets and reports: one lazy registry over three kinds of places.

1. the content folders ``codecs/``, ``datasets/`` and ``reports/`` (at a checkout's root, or in the wheel's package);
2. a user's own catalog folder with the same three sub-folders (``HVQBENCH_CATALOG``, or ``--catalog``);
3. installed packages, through the entry-point groups ``hvqbench.codecs`` and ``hvqbench.metrics``.

Nothing heavy is imported until something is loaded. No place overrides another: two codecs of one name are an error.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from hvqbench.codec import Codec, CodecSpec
from hvqbench.errors import HvqbenchError, did_you_mean
from hvqbench.settings import read_settings
from hvqbench.sources import import_file, module_name

CATALOG_VARIABLE = "HVQBENCH_CATALOG"
ADAPTERS = {
    "vq": "hvqbench.adapters.vq:VQCodec",
    "pillow": "hvqbench.adapters.pillow:PillowCodec",
    "imagecodecs": "hvqbench.adapters.imagecodecs:ImagecodecsCodec",
    "ffmpeg": "hvqbench.adapters.ffmpeg:FFmpegCodec",
    "command": "hvqbench.adapters.command:CommandCodec",
    "compressai": "hvqbench.adapters.compressai:CompressAICodec",
    "torchhub": "hvqbench.adapters.torchhub:TorchHubCodec",
    "downsampled": "hvqbench.adapters.downsampled:DownsampledCodec",
    "published": "hvqbench.adapters.published:PublishedCodec",
}
"""Short names of the adapters that ship with hvqbench; any other is ``package.module:Class`` or an ``adapter.py``."""


def content_folders(kind: str) -> list[Path]:
    """The folders that hold content of *kind* (``codecs``, ``datasets`` or ``reports``), built-in first."""
    package = Path(__file__).parent
    built_in = package / "content" / kind
    folders = [built_in if built_in.is_dir() else package.parent / kind]
    for catalog in filter(None, os.environ.get(CATALOG_VARIABLE, "").split(os.pathsep)):
        if not Path(catalog).is_dir():
            raise HvqbenchError(f"catalog folder {catalog!r} does not exist: correct --catalog or {CATALOG_VARIABLE}")
        folders.append(Path(catalog).resolve() / kind)
    return [folder for folder in folders if folder.is_dir()]


def codec_files() -> dict[str, Path]:
    """Every known codec: its id and its ``codec.toml``."""
    return _unique("codec", _codec_files())


def select_codecs(names: str | Iterable[str]) -> list[str]:
    """What *names* name, in order and each once: ids and paths as they are, and for a tag the ids of all that carry it.

    An id goes before a tag of the same name. An unknown name stays, for :func:`load_spec` to refuse.
    """
    files = codec_files()
    chosen: list[str] = []
    for name in [names] if isinstance(names, str) else names:
        known = name in files or _as_toml_path(name) is not None
        tagged = [] if known else [codec for codec, path in files.items() if name in read_spec(path).tags]
        chosen += tagged or [name]
    return list(dict.fromkeys(chosen))


def dataset_files() -> dict[str, Path]:
    """Every known data set: its id and its manifest."""
    found = ((path.stem, path) for folder in content_folders("datasets") for path in sorted(folder.glob("*.toml")))
    return _unique("data set", found)


def load_codec(name: str) -> Codec:
    """The codec *name*, ready for :meth:`~hvqbench.codec.Codec.prepare`.

    Parameters
    ----------
    name
        An id that ``hvqbench ls codecs`` shows, the path of a ``codec.toml`` or of the folder that holds it, or what
        :func:`source_of` gives for a class or an object.
    """
    return codec_of(load_spec(name))


def codec_of(spec: CodecSpec) -> Codec:
    """The codec that *spec* describes."""
    return _adapter_class(spec)(spec)


def source_of(codec: str | Codec | type[Codec]) -> str:
    """What stands for *codec* in other processes, where :func:`load_codec` makes it anew.

    A name stays; a class is ``package.module:Class``, an object its spec as JSON.

    Raises
    ------
    HvqbenchError
        The class cannot be imported by another process, or an object cannot be made of its spec alone.
    """
    if isinstance(codec, str):
        return codec
    kind = codec if isinstance(codec, type) else type(codec)
    own = f"{kind.__module__}:{kind.__qualname__}"
    if not issubclass(kind, Codec):
        raise HvqbenchError(f"{own} is not a subclass of hvqbench.codec.Codec; see docs/codecs.md")
    if not isinstance(codec, Codec):
        _check_importable(kind)
        return own
    spec = codec.spec
    if spec.id in codec_files() and load_spec(spec.id) == spec and type(codec_of(spec)) is kind:
        return spec.id
    if kind.__module__ != module_name(spec.folder / "adapter.py"):
        _check_importable(kind)
        spec = replace(spec, adapter=own)
    try:
        kind(spec)
    except TypeError as error:
        raise HvqbenchError(f"{own} cannot be made of its spec alone ({error}); let it read spec.options") from None
    return json.dumps(asdict(spec), default=str)


def _check_importable(kind: type[Codec]) -> None:
    if kind.__module__ == "__main__" or "<" in kind.__qualname__:
        raise HvqbenchError(
            f"the codec {kind.__qualname__} is defined where no other process can import it; move it into a module"
        )


def _spec_of_class(target: str) -> CodecSpec:
    """The spec of the class *target*, whose attributes are called as the keys of a ``codec.toml``."""
    kind = load_object(target)
    if not (isinstance(kind, type) and issubclass(kind, Codec)):
        raise HvqbenchError(f"{target} is not a subclass of hvqbench.codec.Codec; see docs/codecs.md")
    summary = (kind.__doc__ or "").strip().partition("\n")[0] if "__doc__" in vars(kind) else ""
    values = {"adapter": target, "summary": summary or kind.__name__, "point_name": "point"}
    keys = {field.name for field in fields(CodecSpec)} - {"id", "folder", "protocol", "needs"}
    found = {key: getattr(kind, key) for key in keys if hasattr(kind, key)}
    values |= {key: value for key, value in found.items() if not isinstance(value, property)}
    folder = Path(sys.modules[kind.__module__].__file__ or "").resolve().parent
    return read_settings(CodecSpec, values, f"class {target}", id=kind.__name__, folder=folder)


def load_spec(name: str) -> CodecSpec:
    """The parsed ``codec.toml`` of codec *name* (an id or a path), or what else :func:`source_of` gives."""
    if name.startswith("{"):
        return read_settings(CodecSpec, json.loads(name), "the spec of a codec")
    if re.fullmatch(r"[\w.]+:[\w.]+", name) and not name.startswith("published:"):
        return _spec_of_class(name)
    path = _as_toml_path(name)
    if path is None:
        files = codec_files()
        if name not in files:
            raise did_you_mean("codec", name, files)
        path = files[name]
    return read_spec(path)


def read_spec(path: Path) -> CodecSpec:
    """Parse one ``codec.toml``; its folder's name is the codec's id."""
    content = {"adapter": "", **read_toml(path)}
    if not content["adapter"] and not (path.parent / "adapter.py").is_file():
        raise HvqbenchError(f"{path}: no 'adapter' is named and no adapter.py lies beside it; add one of the two")
    return read_settings(CodecSpec, content, str(path), id=path.parent.name, folder=path.parent.resolve())


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file, or say in one line what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HvqbenchError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HvqbenchError(f"{path} is not valid TOML: {error}; correct that line") from None


def load_object(target: str) -> Any:
    """Import ``package.module:attribute``."""
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise HvqbenchError(f"cannot load {target!r}: {error}; install the package that provides it") from error


def _adapter_class(spec: CodecSpec) -> type[Codec]:
    beside = spec.folder / "adapter.py"
    adapter = load_object(ADAPTERS.get(spec.adapter, spec.adapter)) if spec.adapter else _only_codec_in(beside)
    if not (isinstance(adapter, type) and issubclass(adapter, Codec)):
        raise HvqbenchError(f"{spec.adapter or beside} is not a subclass of hvqbench.codec.Codec; see docs/codecs.md")
    return adapter


def _only_codec_in(path: Path) -> Any:
    module = import_file(path)
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    codecs = [v for v in own if issubclass(v, Codec)]
    if len(codecs) != 1:
        raise HvqbenchError(
            f"{path} defines {len(codecs)} subclasses of hvqbench.codec.Codec; it must define exactly one"
        )
    return codecs[0]


def _as_toml_path(name: str) -> Path | None:
    if name.startswith("{") or (os.sep not in name and not name.endswith(".toml")):
        return None
    path = Path(name)
    return path if path.suffix == ".toml" else path / "codec.toml"


def _codec_files() -> Iterator[tuple[str, Path]]:
    for folder in content_folders("codecs"):
        for path in sorted(folder.glob("*/codec.toml")):
            yield path.parent.name, path
    for entry in _installed(tuple(sys.path)):
        # An entry point names a function or a string: the path of a codec.toml inside the installed package.
        try:
            target = entry.load()
            yield entry.name, Path(target() if callable(target) else target)
        except Exception as error:  # a package's own, of any kind
            package = entry.dist.name if entry.dist else entry.value
            reason = f"{type(error).__name__}: {error}"
            raise HvqbenchError(
                f"{package} offers codec {entry.name!r} but fails: {reason}; mend or uninstall it"
            ) from None


@functools.cache  # it reads what is said of every installed package, and is asked for with every codec
def _installed(_: tuple[str, ...]) -> metadata.EntryPoints:
    """The codecs that installed packages offer, on an import path."""
    return metadata.entry_points(group="hvqbench.codecs")


def _unique(kind: str, found: Iterator[tuple[str, Path]]) -> dict[str, Path]:
    unique: dict[str, Path] = {}
    for name, path in found:
        if name in unique and unique[name].resolve() != path.resolve():
            raise HvqbenchError(f"two {kind}s are named {name!r}: {unique[name]} and {path}; rename one of them")
        unique[name] = path
    return dict(sorted(unique.items()))
