"""A command line that is printed runs as it stands: it parses, and it names the catalog, the results and the paths."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import hvqbench
from hvqbench import advice, cli
from hvqbench.bench.provenance import why
from hvqbench.catalog import CATALOG_VARIABLE

PACKAGE = Path(hvqbench.__file__).parent


def texts() -> Iterator[tuple[str, str]]:
    """Every string of the code that quotes a command with arguments, its fields filled in with numbers."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in documentation | inner:
                continue
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(p.value) if isinstance(p, ast.Constant) else "1" for p in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            for line in re.findall(r"`(hvqbench [^`]+)`", text):
                if " -" in line or re.search(r"\b1\b", line):  # a bare `hvqbench run` names the command, and no more
                    yield path.relative_to(PACKAGE).as_posix(), line


@pytest.mark.parametrize(("where", "line"), list(texts()))
def test_commands_in_messages_parse(where: str, line: str) -> None:
    command: Any = typer.main.get_command(cli.app)

    def disarm(command: Any) -> None:
        command.callback = lambda **_: None
        for child in getattr(command, "commands", {}).values():
            disarm(child)

    disarm(command)
    command(shlex.split(line)[1:], prog_name="hvqbench", standalone_mode=False)


def test_the_catalog_and_the_results_are_named_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CATALOG_VARIABLE, raising=False)
    assert advice.command("ls", "codecs", results="results") == "hvqbench ls codecs"
    monkeypatch.setenv(CATALOG_VARIABLE, "/my catalog:/other")
    assert advice.command("ls", results="r") == "hvqbench ls --results r --catalog '/my catalog:/other'"


def test_what_is_recorded_has_the_catalog_and_the_programs_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CATALOG_VARIABLE, "/mine")
    monkeypatch.setattr(sys, "argv", ["/venv/hvqbench/__main__.py", "run", "--codec", "jpeg"])
    assert advice.given_command() == "hvqbench run --codec jpeg --catalog /mine"
    monkeypatch.setattr(sys, "argv", ["/bin/hvqbench", "--catalog", "mine", "run"])
    assert advice.given_command() == "hvqbench --catalog mine run"
    monkeypatch.setattr(sys, "argv", ["script.py", "x"])
    assert advice.given_command() == "script.py x"


def test_paths_are_remembered_by_commands(tmp_path: Path) -> None:
    for name in ("mine", "kodak"):
        (tmp_path / name).mkdir()
    commands = [
        f"hvqbench run --codec jpeg,{tmp_path}/mine/codec.toml --dataset {tmp_path}/kodak",
        "hvqbench run --codec gone/mine --dataset gone",
        "not a 'command",
    ]
    assert advice.codec_source("mine", commands) == f"{tmp_path}/mine/codec.toml"
    assert advice.codec_source("jpeg", commands) == "jpeg"
    assert advice.codec_source("lost", commands) == "lost"
    assert advice.dataset_source("kodak", commands) == "kodak"
    assert advice.dataset_source("kodak-folder", commands) == f"{tmp_path}/kodak"
    assert advice.dataset_source("gone", commands) == "gone"


WEBP = (Path(__file__).parents[1] / "codecs" / "webp" / "codec.toml").read_text()


def test_why_prints_a_command_that_runs_for_paths_and_catalogs(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("apart/mine", "catalog/codecs/own"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "codec.toml").write_text(WEBP)
    results = tmp_path / "my results"
    monkeypatch.setenv(CATALOG_VARIABLE, "")  # and taken back afterwards: --catalog sets it

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hvqbench", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main([*arguments])
        return int(caught.value.code or 0)

    codecs = f"{tmp_path}/apart/mine@33,own@33"
    options = ["--metric", "psnr", "--results", str(results), "--catalog", str(tmp_path / "catalog")]
    assert run("run", "--codec", codecs, "--dataset", str(images), *options) == 0
    for codec in ("mine", "own"):
        found = why(f"{codec}/33/a-dark", results)
        assert not found.changed
        assert run(*shlex.split(found.command)[1:]) == 0
        assert why(f"{codec}/33/a-dark", results).row["started"] > found.row["started"]
