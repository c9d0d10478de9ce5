"""The documentation as a site, without a dead link and with the API from the docstrings; the tutorial, which runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


def test_the_site_has_no_dead_link_and_every_name_of_the_api(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="no mkdocs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {f"{page.stem}.html" for page in ROOT.glob("docs/*.md")} <= {p.name for p in tmp_path.glob("site/*.html")}
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert all(f'id="hvqbench.{name}"' in api for name in ("bench.run", "codec.Codec.encode", "analysis.bd.bd_rate"))


def test_the_tutorial_is_kept_without_output() -> None:
    cells = [cell for cell in json.loads(TUTORIAL.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert 0 < len(cells) <= 10
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.usefixtures("backbones")
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install -e '.[docs]'")
    pytest.importorskip("ipykernel", reason="no ipykernel: pip install -e '.[docs]'")
    import nbformat

    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert any("fewer bytes than Huffman coding" in output.get("text", "") for output in shown)
    assert (tmp_path / "report" / "report.html").is_file()
