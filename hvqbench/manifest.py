"""Manifests of data sets, ``datasets/<id>.toml``: what they say; ``docs/datasets.md`` explains their keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hvqbench.catalog import read_toml
from hvqbench.errors import HvqbenchError
from hvqbench.settings import read_settings


@dataclass(frozen=True)
class RemoteFile:
    """A file to have: an image (``[[files]]``) or a zip archive of images (``[[archives]]``)."""

    name: str
    url: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        """A manifest may be a stranger's: it writes nothing outside its own folder, and fetches nothing unchecked."""
        if not self.name or self.name.startswith(".") or re.search(r"[/\\\0]", self.name):
            raise HvqbenchError(f"the name {self.name!r} must be a bare file name that begins with no dot")
        if self.url and not self.url.startswith("https://"):
            raise HvqbenchError(f"the url of {self.name!r} must begin with https://, so that nobody can alter it")
        if (self.url and not self.sha256) or not re.fullmatch(r"([0-9a-f]{64})?", self.sha256):
            raise HvqbenchError(f"{self.name!r} needs its sha256, 64 digits in lower case (`sha256sum FILE`)")


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
    files: tuple[RemoteFile, ...] = ()
    archives: tuple[RemoteFile, ...] = ()
    package: str = ""
    megabytes: int = 0
    obtain: str = ""

    def __post_init__(self) -> None:
        if ".." in self.package.split("/") or self.package.startswith("/"):
            raise HvqbenchError(f"package {self.package!r} must be module/folder, below the module")

    @property
    def urls(self) -> list[str]:
        return [source.url for source in (*self.files, *self.archives) if source.url]


def size_of(dataset: str) -> int | None:
    """How many images a data set of the catalog has; None for one that the catalog does not know, like a folder's."""
    from hvqbench.catalog import dataset_files

    files = dataset_files()
    return read_manifest(files[dataset]).images if dataset in files else None


def title_of(dataset: str) -> str:
    """What papers call a data set of the catalog; the name itself of one that the catalog does not know."""
    from hvqbench.catalog import dataset_files

    files = dataset_files()
    return read_manifest(files[dataset]).title if dataset in files else dataset


def read_manifest(path: Path) -> Manifest:
    """Parse one manifest; its file name is the data set's id."""
    return read_settings(Manifest, read_toml(path), str(path), id=path.stem)
