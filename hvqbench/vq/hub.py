"""Where a model of the diffusers library lies: in a folder, or in a repository of the Hugging Face hub.

A name is ``diffusers:PLACE`` or ``diffusers:PLACE:SUBFOLDER``. PLACE is a folder, or else a repository ``owner/name``,
whose files are looked for in the hub's cache. Only ``config.json`` and safetensors count: a pickled ``.bin`` could run
code. Nothing here imports torch, so that listing codecs stays fast.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hvqbench.errors import UnavailableError

PREFIX = "diffusers:"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
CONVERT = "convert its weights to safetensors (docs/third-party-tokenizers.md)"


@dataclass(frozen=True)
class Source:
    """A diffusers ``VQModel`` by name; *place* is relative to *base* if it is a folder."""

    place: str
    subfolder: str
    base: Path

    @classmethod
    def parse(cls, name: str, base: Path) -> Source:
        """From ``diffusers:PLACE[:SUBFOLDER]``, said in a file of the folder *base*."""
        place, _, subfolder = name.removeprefix(PREFIX).partition(":")
        return cls(place, subfolder, base)

    def files(self) -> list[Path]:
        """Configuration and weights, whether they exist or not; empty for a repository that the hub's cache lacks."""
        if not self._in_hub:
            folder = (self.base / self.place / self.subfolder).resolve()
            return [folder / CONFIG, folder / WEIGHTS]
        if find_spec("huggingface_hub") is None:
            return []
        from huggingface_hub import try_to_load_from_cache

        cached = [try_to_load_from_cache(self.place, file) for file in self._wanted]
        found = [Path(path) for path in cached if isinstance(path, str)]
        return found if len(found) == len(cached) else []

    def fetch(self) -> tuple[Path, Path]:
        """Configuration and weights, downloaded into the hub's cache where they are not on this machine.

        Raises :class:`~hvqbench.errors.UnavailableError`, with what to do, if they cannot be had or are no VQModel's.
        """
        _check_installed()
        config, weights = self.files() or self._download()
        _check(config, weights)
        return config, weights

    def unavailable(self) -> str | None:
        """Why :meth:`fetch` would have to download or fail, and what to do, in one line; None if it would not."""
        try:
            _check_installed()
            if not (found := self.files()):
                return (
                    f"{self.place} is neither a folder in {self.base} nor in the Hugging Face cache; correct the name, "
                    f"or run `{self._command}` where the hub can be reached"
                )
            _check(*found)
        except UnavailableError as error:
            return str(error)
        return None

    @property
    def _in_hub(self) -> bool:
        return bool(REPOSITORY.fullmatch(self.place)) and not (self.base / self.place).is_dir()

    @property
    def _wanted(self) -> list[str]:
        return [f"{self.subfolder}/{file}" if self.subfolder else file for file in (CONFIG, WEIGHTS)]

    @property
    def _command(self) -> str:
        return " ".join(["hf download", self.place, *self._wanted])

    def _download(self) -> list[Path]:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

        found: list[Path] = []
        for file in self._wanted:
            try:
                found.append(Path(hf_hub_download(self.place, file)))
            except (OSError, ValueError) as error:
                if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                    remedy = CONVERT if found else "name a subfolder, as in diffusers:amused/amused-256:vqvae"
                    raise UnavailableError(f"{self.place} on the Hugging Face hub has no {file}; {remedy}") from None
                raise UnavailableError(
                    f"{self.place} is neither a folder in {self.base} nor to be had from the Hugging Face hub "
                    f"({first_line(error)}); correct the name, or run `{self._command}` where the hub can be reached"
                ) from None
        return found


def first_line(error: Exception) -> str:
    """What an exception of another library says, in one line and without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _check_installed() -> None:
    if find_spec("diffusers") is None:
        raise UnavailableError("the package diffusers is not installed: run `pip install diffusers`")


def _check(config: Path, weights: Path) -> None:
    """Raise unless these two files look like those of a VQModel."""
    folder = config.parent
    if not config.is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        remedy = f"name a subfolder of it, as :{inside[0]}" if inside else "name the folder of a diffusers VQModel"
        raise UnavailableError(f"{folder} holds no {CONFIG}; {remedy}")
    try:
        kind = json.loads(config.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"{config} is no model's configuration ({first_line(error)}); fetch it again") from None
    if kind != "VQModel":
        raise UnavailableError(f"{config} describes a model of class {kind}; only a VQModel is a tokenizer")
    if not weights.is_file():
        raise UnavailableError(f"{folder} holds no {WEIGHTS}; fetch it, or {CONVERT}")
