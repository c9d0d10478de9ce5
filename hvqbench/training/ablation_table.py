"""How the table of ablations is shown, here and in reports: apart from the training, since that needs torch."""

from __future__ import annotations

from collections.abc import Mapping

TITLES: Mapping[str, str] = {
    "tokenizer_seed": "seed of tokenizer",
    "tokenizer_steps": "steps of tokenizer",
    "fixed_bits": "fixed",
    "static_bits": "static",
    "index_bits": "indices",
    "z_bits": "z",
    "static_saved_percent": "static saves %",
    "saved_percent": "saves %",
    "z_percent": "z %",
    "psnr": "psnr ↑",
    "lpips-alex": "lpips-alex ↓",
    "dists": "dists ↓",
}
DECIMALS: Mapping[str, int] = {
    **dict.fromkeys(("tokenizer_seed", "tokenizer_steps", "fixed_bits", "static_bits", "index_bits", "z_bits"), 0),
    **dict.fromkeys(("static_saved_percent", "saved_percent", "z_percent", "psnr"), 2),
    **dict.fromkeys(("lpips-alex", "dists"), 4),
    "minutes": 1,
}
INTRODUCTION = """\
Bits are means per image, and ideal: -log2 of the floating-point model's probabilities. No byte was coded, because some
of these models have no integer coder. "saves" compares indices and z with fixed length, "static saves" the ideal code
of the training frequencies; "z %" is z's share. Quality is that of tokenizers that a variant trained. Minutes are of
training, and compare variants only where nothing else ran on the machine."""
