"""Every planted bug is found, by a run that finds nothing where there is none."""

import re

import pytest
from driver import ROOT
from planted import PLANTS, Plant, planted_run, short_run


@pytest.mark.parametrize(
    ("sanitizer", "whole_groups"),
    [(None, False), ("address", False), ("address", True), ("thread", False)],
)
def test_nothing_is_found_without_a_bug(sanitizer, whole_groups):
    code, output = short_run(".*", sanitizer, whole_groups)
    assert code == 0, output
    assert "28 checked" in output


def test_tuning_of_nvidia_gpus(tmp_path):
    """Its longer runs and more rows in flight, where there is no such GPU."""
    metal, cuda = (
        re.search(r"= \{run, (.*)\};", (ROOT / f"src/gpu/{name}.c").read_text())[1]
        for name in ("metal", "cuda")
    )
    assert metal != cuda
    code, output = planted_run(Plant("", "cc1d_metal", metal, cuda, ".*"), tmp_path)
    assert code == 0 and "28 checked" in output, output


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_bug_is_found(plant, tmp_path):
    code, output = planted_run(plant, tmp_path)
    assert code != 0 and re.search(plant.finding, output), f"{code}\n{output}"
