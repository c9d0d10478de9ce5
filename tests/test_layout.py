"""``codecs/`` and ``datasets/`` at the root are content, and hide no package of that name."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def at_the_root(script: str) -> str:
    """What *script* prints when it is run as a user would at the checkout's root, which is then first on the path."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_codecs_is_the_standard_librarys() -> None:
    assert Path(at_the_root("import codecs; print(codecs.__file__)")).parent == Path(sysconfig.get_path("stdlib"))
    assert not list(ROOT.glob("codecs/**/__init__.py"))


def test_datasets_is_not_ours() -> None:
    # A folder without __init__.py is a namespace package: it is found only if no real one is, and never holds code.
    script = "import importlib.util; spec = importlib.util.find_spec('datasets'); print(spec.origin if spec else None)"
    found = at_the_root(script)
    assert found == "None" or ROOT not in Path(found).parents or ".venv" in Path(found).parts
    assert not list(ROOT.glob("datasets/**/*.py"))


def test_a_real_datasets_package_wins(tmp_path: Path) -> None:
    package = tmp_path / "datasets"
    package.mkdir()
    (package / "__init__.py").write_text("NAME = 'Hugging Face'\n")
    script = f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; print(datasets.NAME)"
    assert at_the_root(script) == "Hugging Face"
