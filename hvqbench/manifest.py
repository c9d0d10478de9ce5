"""Manifests of data sets, ``datasets/<id>.toml``: what they say; ``docs/datasets.md`` explains their keys."""

from __future__ import annotations

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
            content[kind] = tuple(Source(**table) for table in content.get(kind, ()))
        return Manifest(id=path.stem, **content)
    except TypeError as error:
        problem = str(error).partition("() ")[2]
        raise HvqbenchError(f"{path}: {problem}; docs/datasets.md lists the keys of a manifest") from None
