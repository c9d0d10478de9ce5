"""What the site has beside the pages of ``docs/``: files of the checkout, and the API reference from the docstrings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "readme.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "license.md": "LICENSE",
    "tokenizers.md": "codecs/tokenizers/README.md",
}
"""Pages of the site that are files elsewhere in the checkout."""

API = {
    "Run and read": (
        "bench.run",
        "bench.request.Request",
        "bench.read_results",
        "bench.score.score",
        "bench.timing.time_codecs",
    ),
    "Codecs, data sets, metrics": (
        *(
            "catalog.load_codec",
            "codec.Codec",
            "codec.ImageEncoder",
            "codec.Bitstream",
            "codec.Stream",
            "codec.CodecSpec",
        ),
        *("data.load_dataset", "data.Dataset", "data.ImageFile", "metrics.load_metric", "metrics.base.Metric"),
        "metrics.base.MetricInfo",
    ),
    "Conclude": (
        *("analysis.bd.bd_rate", "analysis.bd.bd_table", "analysis.bd.BDRate", "analysis.bd_metric.bd_metric"),
        *("analysis.curves.mean_curve", "analysis.saving_table", "analysis.gate.check"),
        *("report.make_report", "report.html.write_html", "matching.match", "rate_control.find_point"),
    ),
    "Train": ("training.train_tokenizer", "training.train_index_model"),
    "Errors": ("errors.HvqbenchError", "errors.BitstreamError", "errors.UnavailableError"),
}
"""What the API reference holds, below ``hvqbench.``."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in ``docs/``."""
    for page, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if page == "license.md":
            text = f"# License\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=_with_links(text, source)))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links of a page of ``docs/`` that leave it to what the site has instead."""
    if page.file.generated_by:
        return markdown
    return _with_links(markdown, f"docs/{page.file.src_uri}")


def _api() -> str:
    parts = ["# API", "From the docstrings. What is not here may change without a word."]
    for title, names in API.items():
        parts += [f"## {title}", *(f"::: hvqbench.{name}\n    options:\n      heading_level: 3" for name in names)]
    return "\n\n".join(parts) + "\n"


def _with_links(text: str, source: str) -> str:
    """*text* of the file *source* with its links as the site has them; a link to a file that it lacks becomes text."""
    site = {str(ROOT / path): page for page, path in PAGES.items()}

    def lead(found: re.Match[str]) -> str:
        label, target, anchor = found[1], found[2], found[3] or ""
        path = (ROOT / source).parent.joinpath(target).resolve()
        if path.is_relative_to(ROOT / "docs"):
            return f"[{label}]({path.relative_to(ROOT / 'docs').as_posix()}{anchor})"
        if str(path) in site:
            return f"[{label}]({site[str(path)]}{anchor})"
        return label if path.exists() else found[0]  # a dead link stays, for mkdocs to complain of

    return re.sub(r"\[([^\]]*)\]\((?!https?:|#|data:)([^)#\s]+)(#[^)\s]*)?\)", lead, text)
