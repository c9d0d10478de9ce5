"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hvqbench.assets import backbone
from hvqbench.errors import UnavailableError


@pytest.fixture
def data_root() -> Path:
    """The folder of real data that ``HVQBENCH_DATA`` names; the test is skipped where there is none."""
    folder = os.environ.get("HVQBENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HVQBENCH_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def backbones() -> None:
    """The real AlexNet and VGG16 convolutions; the test is skipped where no source of them can be reached."""
    try:
        backbone("alexnet")
        backbone("vgg16")
    except UnavailableError as error:
        pytest.skip(str(error))
