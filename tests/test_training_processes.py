"""Training in two processes, started by ``accelerate launch``: they learn together what one would learn alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from hvqbench.errors import HvqbenchError
from hvqbench.training import processes
from hvqbench.training.loop import Run, read_config
from hvqbench.training.tokenizer import TokenizerTraining, _Trainer, train_tokenizer
from hvqbench.vq.models.hyperprior import Hyperprior
from hvqbench.vq.tokenizer import Tokenizer

CONFIG = """
steps = {steps}
crop = 32
learning_rate = 1e-3
perceptual = []
adversarial = 0.1
adversarial_from = 0.5
rate = 0.05
rate_from = 2
codebook_from = 2
revive_every = 3
[autoencoder]
encoder_widths = [8, 8, 12]
decoder_widths = [8, 8, 12]
encoder_blocks = [1, 1, 1]
decoder_blocks = [1, 1, 1]
head_width = 4
[[tokenizer]]
name = "single"
share = {share}
codewords = 24
dim = 4
[[tokenizer]]
name = "residual"
share = {share}
whole = 1
codewords = 16
dim = 4
stages = 2
"""
INDEX_MODEL = """
tokenizer = "tokenizers/residual"
steps = 110
batch = 4
crop = 64
crops = 24
width = 12
z_channels = 2
"""


class Given:
    """Crops B×3×32×32 in place of photos: process *rank* of *count* gets every *count*-th of a batch."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count, self.generator = rank, count, torch.Generator().manual_seed(5)

    def batch(self, size: int, rng: np.random.Generator) -> torch.Tensor:
        whole = torch.rand(size * self.count, 3, 32, 32, generator=self.generator) * 2 - 1
        return whole[self.rank :: self.count]


def learned(root: Path, name: str) -> dict[str, torch.Tensor]:
    """Weights, codebooks and their statistics after training *name*.toml, from the export ``start`` if there is one."""
    settings = read_config(TokenizerTraining, root / f"{name}.toml")
    start = root / "start" if (root / "start").exists() else None
    given = Given(processes.rank(), processes.count())
    # In bfloat16, where a machine has it, two halves of a batch round otherwise than the whole.
    with patch("hvqbench.training.loop.autocast_dtype", return_value=None):
        trainer = _Trainer(settings, Run(root / name, settings.steps), given, "cpu", start)  # type: ignore[arg-type]
        trainer.train()
    values = {f"family.{n}": t for n, t in trainer.family.state_dict().items()}
    for member in trainer.family.members:
        values |= {f"{member.name}.hyperprior.{n}": t for n, t in member.hyperprior.state_dict().items()}
        for stage, codebook in enumerate(member.codebooks):
            values |= {f"{member.name}.{stage}.{n}": t for n, t in codebook.state().items()}
    return values | {f"judge.{n}": t for n, t in trainer.judge.state_dict().items()}


def launch(*command: object) -> subprocess.CompletedProcess[str]:
    """A command of Python in two processes of one thread each."""
    pytest.importorskip("accelerate", reason="pip install 'hvqbench[train]'")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    more = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    arguments = [*launcher, *more, *map(str, command)]
    root = Path(__file__).parents[1]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_learn_what_one_learns_from_their_batches_together(tmp_path: Path) -> None:
    text = CONFIG.format(steps=6, share=4).replace("revive_every = 3", "revive_every = 100")
    (tmp_path / "one.toml").write_text(text)
    (tmp_path / "two.toml").write_text(text.replace("share = 4", "share = 2"))
    first = learned(tmp_path, "one")  # leaves an export to start from
    (tmp_path / "one").rename(tmp_path / "start")
    one = learned(tmp_path, "one")
    launch(__file__, tmp_path, "two")
    ranks = [torch.load(tmp_path / f"two-{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, tensor in ranks[0].items():
        assert torch.equal(tensor, ranks[1][name]), name
    for name in ("family.autoencoder.down.0.1.weight", "family.autoencoder.up.0.0.conv1.weight", "judge.0.weight"):
        moved = (one[name] - first[name]).norm()
        assert (ranks[0][name] - one[name]).norm() < 0.02 * moved, name
    for name in ("family.tokenizers.single.codebooks", "family.tokenizers.residual.codebooks"):
        assert torch.allclose(ranks[0][name], one[name], atol=1e-4)


def test_command_in_two_processes_writes_once_and_resumes(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HVQBENCH_DATA", raising=False)  # no card with Kodak's numbers
    (tmp_path / "tokenizer.toml").write_text(CONFIG.format(steps=205, share=1))
    (tmp_path / "index.toml").write_text(INDEX_MODEL)
    common = ("--data", photos, "--out")
    tokenizers = ("-m", "hvqbench", "train", "tokenizer", "--config", tmp_path / "tokenizer.toml", *common)
    launch(*tokenizers, tmp_path / "tokenizers", "--steps", 105)
    again = launch(*tokenizers, tmp_path / "tokenizers")
    assert again.stdout.split() == [
        str(tmp_path / "tokenizers" / n / "tokenizer.safetensors") for n in ("single", "residual")
    ]
    lines = [json.loads(line) for line in (tmp_path / "tokenizers" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200]
    assert "2 processes, each on CPU" in (tmp_path / "tokenizers" / "README.md").read_text()

    launch("-m", "hvqbench", "train", "index-model", "--config", tmp_path / "index.toml", *common, tmp_path / "index")
    _, _, made_for = Hyperprior.load(tmp_path / "index" / "hyperprior.safetensors")
    assert made_for == Tokenizer.load(tmp_path / "tokenizers" / "residual" / "tokenizer.safetensors").digest
    assert len((tmp_path / "index" / "log.jsonl").read_text().splitlines()) == 1
    assert not list((tmp_path / "index").glob("indices-*"))


def test_several_processes_without_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    (tmp_path / "train.toml").write_text(CONFIG.format(steps=1, share=1))
    with pytest.raises(HvqbenchError, match=r"pip install 'hvqbench\[train\]'"):
        train_tokenizer(tmp_path / "train.toml", tmp_path, tmp_path / "out")


if __name__ == "__main__":  # what the first test launches
    processes.join("cpu")
    torch.save(learned(Path(sys.argv[1]), sys.argv[2]), Path(sys.argv[1]) / f"{sys.argv[2]}-{processes.rank()}.pt")
