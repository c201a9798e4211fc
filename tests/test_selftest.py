"""The self test: passes where all is right, and notices each operation that is not."""

import json

import pytest
import torch
from numerics import DEVICE

from causal_conv1d_mps import _ops, selftest


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A part of its cases, and short timings."""
    for name, value in {
        "WIDTHS": (3, 4),
        "LENGTHS": (2, 35),
        "LAYOUTS": ("channels-last",),
        "SHAPE": (1, 16, 16),
        "SAMPLE": 1e-4,
    }.items():
        monkeypatch.setattr(selftest, name, value)


def test_page(capsys):
    assert selftest.main(["--device", DEVICE.name]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in selftest.OPERATIONS)
    assert f"device: {DEVICE.name}" in page and "forward 1x16x16 channel-first" in page
    assert "WRONG" not in page and "NO" not in page.split("right\n")[-1]


@pytest.mark.native_only
@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        ("forward_plain_fast", {"forward"}),
        ("forward", {"forward, seq_idx", "forward, states", "forward, packed"}),
        ("backward_plain_fast", {"backward"}),
        ("backward", {f"backward, {kind}" for kind in ("seq_idx", "states", "packed")}),
        ("update_plain_fast", {"update, plain"}),
        ("update_fast", {"update, ring", "update, indices"}),
        ("varlen_states", {"varlen states"}),
    ],
)
def test_a_wrong_operation_is_found(monkeypatch, capsys, op, wrong):
    right = getattr(_ops, op)

    def off(result):
        return result * 1.001 if isinstance(result, torch.Tensor) else tuple(map(off, result))

    monkeypatch.setattr(_ops, op, lambda *arguments: off(right(*arguments)))
    assert selftest.main(["--device", DEVICE.name, "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)
    checks = result["checks"]
    assert {c["operation"] for c in checks if not c["right"]} == wrong


@pytest.mark.native_only
def test_what_an_operation_raises_is_on_the_page(monkeypatch, capsys):
    def fail(*arguments):
        raise RuntimeError("no such kernel\nin line 7")

    monkeypatch.setattr(_ops, "update_plain_fast", fail)
    monkeypatch.setattr(selftest, "measure", lambda device: [])
    assert selftest.main(["--device", DEVICE.name]) == 1
    page = capsys.readouterr().out
    assert "WRONG: update, plain, fp32, channels-last: RuntimeError: no such kernel\n" in page


def test_tables_are_never_cut(capsys):
    selftest.show("Title", ["one", "two"], [["a", "b"], ["longer", "c"]])
    assert capsys.readouterr().out == "\nTitle\none     two\na       b\nlonger  c\n"
    selftest.show("Title", ["one", "two"], [["a" * 200, "b" * 200]])
    assert "a" * 200 + "  " + "b" * 200 + "\n" in capsys.readouterr().out


def test_a_missing_device(capsys):
    absent = [d for d in ("mps", "cuda") if not torch.get_device_module(d).is_available()]
    if not absent:
        pytest.skip("every device is here")
    with pytest.raises(SystemExit) as exit:
        selftest.main(["--device", absent[0]])
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith(f"Cannot run on {absent[0]}: this machine")
