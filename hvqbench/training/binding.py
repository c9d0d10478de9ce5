"""Index models of a tokenizer whose decoder alone was trained further: they hold for it, and have to say so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from hvqbench.errors import HvqbenchError
from hvqbench.vq.loading import load_tokenizer
from hvqbench.vq.weights import load_weights, save_weights


def bind_index_models(files: Iterable[Path], tokenizer: Path, before: Path) -> list[Path]:
    """Bind hyperpriors and frequencies, made for the tokenizer in the folder *before*, to the one in *tokenizer*.

    The two must give the same indices, that is, differ in what only paints (``painting``). A file that is bound to the
    new one is left as it is. Returns the files that were written.
    """
    old, new = (load_tokenizer(str(folder.resolve()), Path()) for folder in (before, tokenizer))
    theirs, own = old.state_dict(), new.state_dict()
    for name in sorted(theirs.keys() | own.keys()):
        if name.startswith(new.painting):
            continue
        if name not in theirs or name not in own or not torch.equal(theirs[name], own[name]):
            raise HvqbenchError(
                f"{tokenizer} and {before} give other indices ({name} differs): train index models anew"
            )
    written = []
    for path in files:
        tensors, metadata = load_weights(path, "tokenizer")
        if metadata["tokenizer"] not in (old.digest, new.digest):
            raise HvqbenchError(
                f"{path} belongs to neither {before} nor {tokenizer}: name the tokenizer it was made for"
            )
        if metadata["tokenizer"] == old.digest != new.digest:
            save_weights(path, tensors, metadata | {"tokenizer": new.digest})
            written.append(path)
    return written
