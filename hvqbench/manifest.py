"""Manifests of data sets, ``datasets/<id>.toml``: what they say; ``docs/datasets.md`` explains their keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from hvqbench.catalog import read_toml
from hvqbench.errors import HvqbenchError


@dataclass(frozen=True)
class Source:
    """A file to have: an image (``[[files]]``) or a zip archive of images (``[[archives]]``)."""

    name: str
    url: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """A parsed ``datasets/<id>.toml``.

    Parameters
    ----------
    title, summary, licence, citation
        What papers call it, one sentence about it, under which terms, and what to cite.
    images
        How many images there are.
    files
        One table ``[[files]]`` per image, where they are known one by one: ``name`` (file name), ``url``, ``sha256``.
    archives
        One table ``[[archives]]`` per zip archive: ``name`` (sub-folder for its images), ``url``, ``sha256``.
    package
        ``module/folder`` of an installed Python package that carries the files.
    megabytes
        Size of the download.
    obtain
        How to get the images where they cannot be downloaded.
    """

    id: str
    title: str
    summary: str
    licence: str
    images: int
    citation: str = ""
    files: tuple[Source, ...] = ()
    archives: tuple[Source, ...] = ()
    package: str = ""
    megabytes: int = 0
    obtain: str = ""

    @property
    def urls(self) -> list[str]:
        return [source.url for source in (*self.files, *self.archives) if source.url]


def size_of(dataset: str) -> int | None:
    """How many images a data set of the catalog has; None for one that the catalog does not know, like a folder's."""
    from hvqbench.catalog import dataset_files

    files = dataset_files()
    return read_manifest(files[dataset]).images if dataset in files else None


def read_manifest(path: Path) -> Manifest:
    """Parse one manifest; its file name is the data set's id."""
    content = read_toml(path)
    known = {field.name for field in fields(Manifest)} - {"id"}
    if unknown := sorted(content.keys() - known):
        raise HvqbenchError(
            f"{path}: unknown key {unknown[0]!r}; the keys of a manifest are {', '.join(sorted(known))}"
        )
    try:
        for kind in ("files", "archives"):
            tables = content.get(kind, [])
            if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
                raise HvqbenchError(f"{path}: its {kind} must be tables, each headed [[{kind}]]")
            content[kind] = tuple(Source(**table) for table in tables)
        manifest = Manifest(id=path.stem, **content)
    except TypeError as error:
        problem = str(error).partition("() ")[2]
        raise HvqbenchError(f"{path}: {problem}; docs/datasets.md lists the keys of a manifest") from None
    _check_types(path, manifest)
    for source in (*manifest.files, *manifest.archives):
        _check_source(path, source)
    if ".." in manifest.package.split("/") or manifest.package.startswith("/"):
        raise HvqbenchError(f"{path}: package {manifest.package!r} must be module/folder, below the module")
    return manifest


def _check_types(path: Path, manifest: Manifest) -> None:
    for key in ("images", "megabytes"):
        if type(getattr(manifest, key)) is not int:
            raise HvqbenchError(f"{path}: {key} must be a whole number, not {getattr(manifest, key)!r}")
    texts = {key: getattr(manifest, key) for key in ("title", "summary", "licence", "citation", "package", "obtain")}
    for source in (*manifest.files, *manifest.archives):
        texts |= {f"{key} of {source.name!r}": getattr(source, key) for key in ("name", "url", "sha256")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise HvqbenchError(f"{path}: {key} must be a text, not {value!r}")


def _check_source(path: Path, source: Source) -> None:
    """A manifest may be a stranger's: it writes nothing outside its own folder, and fetches nothing unchecked."""
    bare = source.name and not source.name.startswith(".") and not re.search(r"[/\\\0]", source.name)
    if not bare:
        raise HvqbenchError(f"{path}: the name {source.name!r} must be a bare file name that begins with no dot")
    if source.url and not source.url.startswith("https://"):
        raise HvqbenchError(f"{path}: the url of {source.name!r} must begin with https://, so that nobody can alter it")
    if (source.url and not source.sha256) or not re.fullmatch(r"([0-9a-f]{64})?", source.sha256):
        raise HvqbenchError(f"{path}: {source.name!r} needs its sha256, 64 digits in lower case (`sha256sum FILE`)")
