"""Code of a user's own: imported from where it lies, and all of it counted into what a row's key hashes.

An edit in a module that an adapter imports changes numbers as an edit in the adapter does. What counts is found in the
``import`` statements of the text, so a module that is imported by name at run time is not seen.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from hvqbench.errors import HvqbenchError


def import_file(path: Path) -> ModuleType:
    """The module in the file *path*, whose folder it can import from as a script can."""
    folder = path.parent.resolve()
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for source in local_sources(path)[1:]:
        # Two folders may both have a helper.py: this one's own is meant.
        name = ".".join(source.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        known = sys.modules.get(name)
        if known is not None and Path(known.__file__ or "").resolve() != source:
            del sys.modules[name]
    spec = importlib.util.spec_from_file_location(module_name(path), path)
    if spec is None or spec.loader is None or not path.is_file():
        raise HvqbenchError(f"{path} is not a Python file; correct the name")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses and pickle need it
    first, sys.path[:] = list(sys.path), [str(folder), *sys.path]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = first
    return module


def module_name(path: Path) -> str:
    """What :func:`import_file` calls the module in the file *path*."""
    return f"hvqbench_{path.stem}_{path.parent.resolve().name}"


def local_sources(path: Path, root: Path | None = None) -> list[Path]:
    """*path* and every file below *root* (by default its folder) that it imports, directly or not; *path* first."""
    root = (root or path.parent).resolve()
    found: list[Path] = []
    waiting = [path.resolve()]
    while waiting:
        source = waiting.pop(0)
        if source in found or not source.is_file():
            continue
        found.append(source)
        waiting += _imported(source, root)
    return [found[0], *sorted(found[1:])] if found else []


def module_sources(name: str) -> list[Path]:
    """The files of the module *name* and of what it imports of its own package; none if it cannot be found."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return []
    path = Path(spec.origin)
    if "." not in name and path.name != "__init__.py":
        installed = path.parent.name in ("site-packages", "dist-packages")
        return [path] if installed else local_sources(path)
    levels = name.count(".") + (path.name == "__init__.py")
    return local_sources(path, path.parents[levels] / name.split(".")[0])


def _imported(source: Path, root: Path) -> Iterator[Path]:
    """Files below *root* that *source* names in an import."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return
    # A package's own name is found from the folder that holds it, a script's neighbours from their folder.
    bases = [root, root.parent] if (root / "__init__.py").is_file() else [root]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(bases, alias.name.split("."), root)
        elif isinstance(node, ast.ImportFrom):
            start = [source.parents[node.level - 1]] if node.level else bases
            stem = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files(start, [*stem, alias.name], root)


def _files(bases: list[Path], names: list[str], root: Path) -> Iterator[Path]:
    """What importing the dotted *names* runs: every package on the way, and the module."""
    for base in bases:
        for count in range(len(names) + 1):
            place = base.joinpath(*names[:count])
            for path in (place / "__init__.py", place.with_suffix(".py") if count else place / "__init__.py"):
                if path.is_file() and path.resolve().is_relative_to(root):
                    yield path.resolve()
