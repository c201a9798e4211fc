"""What a release says of itself."""

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import check_wheels
import release
import wheels

pytestmark = pytest.mark.cpu_only


def test_notes():
    assert release.notes("0.1.0").startswith("- ")
    with pytest.raises(ValueError, match=r"no entry for 9\.9\.9"):
        release.notes("9.9.9")


def test_sums(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"wheel")
    (tmp_path / "SHA256SUMS").write_text(release.sums([tmp_path / "a.whl"]))
    check = ["sha256sum", "-c", "SHA256SUMS"]
    assert subprocess.call(check, cwd=tmp_path) == 0
    (tmp_path / "a.whl").write_bytes(b"Wheel")
    assert subprocess.call(check, cwd=tmp_path) != 0
    assert hashlib.sha256(b"wheel").hexdigest() in (tmp_path / "SHA256SUMS").read_text()


def test_declared_functions_are_the_exported_ones():
    """What a DLL is compared with: the header's own list, read another way."""
    text = (release.ROOT / "include/causal_conv1d.h").read_text()
    assert len(check_wheels.declared()) == len(re.findall(r"^CAUSAL_CONV1D_API", text, re.M))
    assert {"causal_conv1d_forward", "causal_conv1d_isa"} <= check_wheels.declared()


@pytest.mark.parametrize("missing", ["causal_conv1d_mps/causal_conv1d.metal", "licenses/LICENSE"])
def test_a_wheel_that_lacks_something(tmp_path, missing):
    def write(path, without):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("causal_conv1d_mps/libcausal_conv1d.so", b"")
            for name, source in check_wheels.INSIDE.items():
                if name != without:
                    archive.writestr(name, source.read_bytes())
        return check_wheels.content_problems(path)

    assert write(tmp_path / "a.whl", None) == []
    assert len(write(tmp_path / "b.whl", missing)) == 1


def test_repacked_wheels_do_not_tell_modes_and_times(tmp_path):
    for name, mode, year in (("a.whl", 0o100644, 1990), ("b.whl", 0o100664, 2020)):
        entry = zipfile.ZipInfo("package/__init__.py", (year, 1, 1, 0, 0, 0))
        entry.external_attr = mode << 16
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(entry, "text")
    before = [(tmp_path / name).read_bytes() for name in ("a.whl", "b.whl")]
    wheels.repack(tmp_path / "a.whl")
    wheels.repack(tmp_path / "b.whl")
    after = [(tmp_path / name).read_bytes() for name in ("a.whl", "b.whl")]
    assert before[0] != before[1] and after[0] == after[1]
    assert zipfile.ZipFile(tmp_path / "a.whl").read("package/__init__.py") == b"text"
