"""Data sets: which images, where they lie, and whether they are the right ones.

A manifest ``datasets/<id>.toml`` describes a data set; the images themselves are never part of the project. They are
looked for in this order, and the first folder that exists counts:

1. for a manifest with ``package``: inside that installed Python package;
2. ``$HVQBENCH_DATA/<id>/``, sub-folders included;
3. hvqbench's cache (``HVQBENCH_CACHE``), into which they are downloaded if the manifest has URLs.

The number of images is always checked, and their sha256 where the manifest (:mod:`hvqbench.manifest`) has it. Any
folder of images, or one image file, is a data set too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvqbench import downloads
from hvqbench.catalog import dataset_files
from hvqbench.codec import Image, image_digest
from hvqbench.errors import HvqbenchError, UnavailableError, closest, did_you_mean, say
from hvqbench.image import SUFFIXES, read_image
from hvqbench.manifest import Manifest, read_manifest

DATA_VARIABLE = "HVQBENCH_DATA"
LONGEST_ID = 200
"""Bytes; in a store the id is part of a folder's name, of which file systems allow 255."""
TEXTS = frozenset(
    {".csv", ".db", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rst", ".sh", ".toml", ".tsv", ".txt", ".xml"}
    | {".py", ".yaml", ".yml", ".zip", ".gz", ".tar"}
)
"""Suffixes that nobody takes for those of images: such files are left out of a folder without a word."""


@dataclass(frozen=True)
class ImageFile:
    """One image of a data set: its name, unique in the data set and the same on every machine, and its file.

    Parameters
    ----------
    sha256
        Of the pixels (:func:`~hvqbench.codec.image_digest`), where they are known: then no others are ever read.
    """

    name: str
    path: Path
    sha256: str = field(default="", kw_only=True)

    def read(self) -> Image:
        """The pixels, uint8 H×W×3; see :func:`hvqbench.image.read_image`.

        Raises
        ------
        HvqbenchError
            The file cannot be read, or its pixels are not those of :attr:`sha256`.
        """
        return self.checked(read_image(self.path))

    def checked(self, pixels: Image) -> Image:
        """*pixels* themselves, if they are this image's."""
        if self.sha256 and image_digest(pixels) != self.sha256:
            raise HvqbenchError(
                f"{self.path} has other pixels than when the run began: it was replaced, or another version of a "
                "library reads it here; run the same command again"
            )
        return pixels


@dataclass(frozen=True)
class Dataset:
    """Images that are on this machine, sorted by name."""

    id: str
    title: str
    summary: str
    images: tuple[ImageFile, ...]
    licence: str = ""
    citation: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def named(self, names: Sequence[str]) -> list[ImageFile]:
        """The images of those *names*, in their order.

        Raises
        ------
        HvqbenchError
            There is no image of a name.
        """
        known = {file.name: file for file in self.images}
        for name in names:
            if name not in known:
                hint = closest(name, known)
                raise HvqbenchError(
                    f"{self.id} has no image {name!r}: {hint}it has {len(known)}, like {next(iter(known))!r}"
                )
        return [known[name] for name in names]


def load_dataset(id_or_path: str | Path) -> Dataset:
    """A data set, downloaded if need be, and checked.

    Parameters
    ----------
    id_or_path
        An id that ``hvqbench ls datasets`` shows, or a folder of images (sub-folders are left out), or one image file.

    Raises
    ------
    HvqbenchError
        Unknown id, a folder without an image, missing or altered files; with what to do about it.

    Examples
    --------
    >>> len(load_dataset("sample"))
    8
    """
    files = dataset_files()
    if str(id_or_path) in files:
        return _load(read_manifest(files[str(id_or_path)]))
    path = Path(id_or_path)
    if path.exists():
        return _from_path(path, set(files))
    if isinstance(id_or_path, Path) or os.sep in id_or_path:
        raise HvqbenchError(
            f"there is no folder or image {path}: correct the path, or name one of `hvqbench ls datasets`"
        )
    raise did_you_mean("dataset", id_or_path, files)


def dataset_unavailable(name: str) -> str | None:
    """None if the images of data set *name* are on this machine; else one line that says why not and what to do.

    Cheap: nothing is downloaded, and no file is read.
    """
    files = dataset_files()
    if name not in files:
        raise did_you_mean("dataset", name, files)
    manifest = read_manifest(files[name])
    folder = _local_folder(manifest)
    if folder is None:
        place = _place(manifest)
        if not manifest.urls:
            return f"not on this machine: {manifest.obtain or f'put its {manifest.images} images into {place}'}"
        size = f" ({manifest.megabytes} MB)" if manifest.megabytes else ""
        return (
            f"not on this machine: its first use downloads it{size}, or put its {manifest.images} images into {place}"
        )
    found = _images_in(folder, manifest)
    if len(found) != manifest.images:
        return f"{folder} has {len(found)} of its {manifest.images} images: complete that folder"
    return None


def _load(manifest: Manifest) -> Dataset:
    folder = _local_folder(manifest) or _download(manifest)
    paths = _images_in(folder, manifest)
    _check(manifest, folder, paths)
    return Dataset(
        id=manifest.id,
        title=manifest.title,
        summary=manifest.summary,
        images=_named(paths, folder),
        licence=manifest.licence,
        citation=manifest.citation,
    )


def _local_folder(manifest: Manifest) -> Path | None:
    if manifest.package:
        module, _, below = manifest.package.partition("/")
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / below
    data = os.environ.get(DATA_VARIABLE)
    if data and (own := Path(data) / manifest.id).is_dir():
        return own
    cached = downloads.cache_folder() / "datasets" / manifest.id
    return cached if cached.is_dir() else None


def _place(manifest: Manifest) -> str:
    """Where the user may put the images, as text."""
    data = os.environ.get(DATA_VARIABLE)
    return str(Path(data) / manifest.id) if data else f"FOLDER/{manifest.id} and set {DATA_VARIABLE}=FOLDER"


def _images_in(folder: Path, manifest: Manifest) -> list[Path]:
    if manifest.files:
        return [path for file in manifest.files if (path := folder / file.name).is_file()]
    return _listed(folder.rglob("*"))


def _listed(paths: Any) -> list[Path]:
    return sorted(p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())


def _check(manifest: Manifest, folder: Path, paths: Sequence[Path]) -> None:
    if len(paths) != manifest.images:
        missing = [file.name for file in manifest.files if not (folder / file.name).is_file()]
        first = f" (the first that is missing: {missing[0]})" if missing else ""
        raise HvqbenchError(
            f"data set {manifest.id!r} has {manifest.images} images, but {folder} has {len(paths)}{first}: "
            "complete that folder, or remove it"
        )
    for file in manifest.files:
        if file.sha256 and downloads.sha256_of(folder / file.name) != file.sha256:
            raise HvqbenchError(
                f"{folder / file.name} is not the {file.name} of {manifest.id!r} (sha256 differs): replace it"
            )


def _download(manifest: Manifest) -> Path:
    if manifest.package:
        package = manifest.package.partition("/")[0]
        raise UnavailableError(
            f"data set {manifest.id!r} needs the package {package}, which is not installed: install it"
        )
    if not manifest.urls:
        raise UnavailableError(f"data set {manifest.id!r} is {dataset_unavailable(manifest.id)}")
    target = downloads.cache_folder() / "datasets" / manifest.id
    downloads.make_folder(target.parent)
    say(f"downloading {manifest.title} to {target} (once, {manifest.megabytes} MB; licence: {manifest.licence})")
    # All or nothing: the folder gets its name when it is complete.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{manifest.id}.") as name:
        folder = Path(name) / manifest.id
        folder.mkdir()
        try:
            for file in manifest.files:
                downloads.fetch(file.url, folder / file.name, file.sha256)
            for archive in manifest.archives:
                zipped = Path(name) / f"{archive.name}.zip"
                downloads.fetch(archive.url, zipped, archive.sha256)
                _unzip_images(zipped, folder / archive.name)
        except UnavailableError as error:
            place = _place(manifest)
            raise UnavailableError(
                f"{error}; or put the {manifest.images} images of {manifest.id} into {place}"
            ) from None
        _check(manifest, folder, _images_in(folder, manifest))
        if not target.exists():  # another process may have been faster
            folder.rename(target)
    return target


def _unzip_images(archive: Path, folder: Path) -> None:
    """All images of a zip archive, without its folders."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                name = Path(member.filename).name
                if Path(name).suffix.lower() in SUFFIXES and "__MACOSX" not in member.filename:
                    with content.open(member) as source, (folder / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
    except zipfile.BadZipFile as error:
        raise UnavailableError(f"{archive.name} is not a complete zip archive ({error}): download it again") from None


def _from_path(path: Path, known: set[str]) -> Dataset:
    paths = _listed(path.iterdir()) if path.is_dir() else [path]
    if path.is_dir() and (others := _left_out(path)):
        say(f"left out of {path}, no image by its suffix: {others}")
    if not paths:
        suffixes = " ".join(sorted(SUFFIXES))
        raise HvqbenchError(f"{path} has no image: name a folder that directly holds files of type {suffixes}")
    name = path_id(path)
    # It must not pass for a known data set, whatever the folder is called.
    name = _shortened(f"{name}-folder" if name in known else name)
    return Dataset(id=name, title=name, summary=f"the {len(paths)} images in {path}", images=_named(paths, path))


def path_id(path: Path) -> str:
    """The id of a folder or an image as a data set, which becomes part of a path in the store."""
    resolved = path.resolve()
    return _shortened(re.sub(r"[^\w.-]+", "-", resolved.name if path.is_dir() else resolved.stem) or "folder")


def _left_out(folder: Path) -> str:
    """How many files of which suffix a folder holds that do not count as images, apart from texts about them."""
    suffixes = Counter(
        path.suffix.lower() or "without a suffix"
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.suffix.lower() not in SUFFIXES | TEXTS and path.is_file()
    )
    return ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))


def _shortened(name: str) -> str:
    """*name*, or its beginning and a hash of it where it is too long to be part of a file name."""
    if len(name.encode()) <= LONGEST_ID:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: LONGEST_ID - 9].decode(errors='ignore')}-{digest}"


def _named(paths: Sequence[Path], folder: Path) -> tuple[ImageFile, ...]:
    """Names are file names without their suffix; where two would be equal, with suffix and sub-folder."""
    whole = [path.relative_to(folder).as_posix() for path in paths]
    for path in paths:
        if not _is_text(path.name):
            raise HvqbenchError(f"{path.parent}: the file name {path.name!a} is not valid UTF-8; rename the file")
    count = Counter(path.stem for path in paths)
    names = [p.stem if count[p.stem] == 1 else name for p, name in zip(paths, whole, strict=True)]
    count = Counter(names)  # x.png beside x.png.jpg
    names = [n if count[n] == 1 else name for n, name in zip(names, whole, strict=True)]
    return tuple(sorted((ImageFile(n, p) for n, p in zip(names, paths, strict=True)), key=lambda image: image.name))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
