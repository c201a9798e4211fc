"""What a release says of itself."""

import hashlib
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("auditwheel")
pytest.importorskip("lief")
pytest.importorskip("ziglang")
pytest.importorskip("zopfli")
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
                    archive.writestr(name, check_wheels.content(source))
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


STAND_IN = """
#include <causal_conv1d.h>
#include <stdlib.h>
static int hidden(void) { const char *hide = getenv("CAUSAL_CONV1D_HIDE"); return hide && *hide; }
const char *causal_conv1d_version(void) { return "0"; }
const char *causal_conv1d_isa(void) { return hidden() ? "scalar" : "avx2"; }
const char *causal_conv1d_status_message(causal_conv1d_status status) { (void)status; return ""; }
causal_conv1d_status causal_conv1d_forward(const causal_conv1d_forward_args *args,
    const causal_conv1d_threads *threads, causal_conv1d_error *error)
{
    for (int i = 0; i < 12; i++) ((float *)args->out.data)[i] = FORWARD;
    (void)threads, (void)error;
    return STATUS;
}
causal_conv1d_status causal_conv1d_backward(const causal_conv1d_backward_args *args,
    const causal_conv1d_threads *threads, causal_conv1d_error *error)
{
    for (int i = 0; i < 12; i++) ((float *)args->dx.data)[i] = 1;
    for (int i = 0; i < 8; i++) ((float *)args->dweight.data)[i] = 1;
    (void)threads, (void)error;
    return STATUS;
}
"""


@pytest.fixture
def wheel_of(tmp_path):
    """A wheel for a platform whose library is compiled from C."""

    def wheel_of(name, source, *options):
        library = tmp_path / ("causal_conv1d.dll" if "win" in name else "libcausal_conv1d.so")
        command = wheels.zig("cc", "-target", wheels.TARGETS[name].triple, "-shared", "-fPIC")
        command += [*options, f"-I{release.ROOT}/include", "-x", "c", "-", "-o", library]
        subprocess.run(command, input=source, text=True, env=wheels.environment(), check=True)
        wheel = tmp_path / f"package-0-py3-none-{name}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(library, f"causal_conv1d_mps/{library.name}")
            for inside in ("causal_conv1d_mps/causal_conv1d.h", "licenses/LICENSE"):
                archive.write(check_wheels.INSIDE[inside], inside)
            record = "".join(f"{file},,\n" for file in archive.namelist())
            archive.writestr("package-0.dist-info/RECORD", record)
            archive.writestr("package-0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        return wheel

    return wheel_of


linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="runs where wheels are built"
)


@linux
@pytest.mark.parametrize(
    ("forward", "status", "problem"),
    [
        ("1", "CAUSAL_CONV1D_OK", None),
        ("hidden()", "CAUSAL_CONV1D_OK", "with vectors"),
        ("1", "CAUSAL_CONV1D_BAD_SHAPE", "does not run"),
    ],
)
def test_a_library_that_is_wrong(wheel_of, forward, status, problem):
    wheel = wheel_of(
        "manylinux_2_17_x86_64", STAND_IN, f"-DFORWARD={forward}", f"-DSTATUS={status}"
    )
    found = check_wheels.run_problems(wheel)
    assert found == [] if problem is None else problem in found[0]


@linux
@pytest.mark.parametrize(("glibc", "right"), [("2.17", True), ("2.34", False)])
def test_a_library_that_is_too_new(wheel_of, monkeypatch, glibc, right):
    """secure_getenv is of 2.17; pthread_create moved into libc in 2.34, under a new version."""
    name = "manylinux_2_17_x86_64"
    target = wheels.TARGETS[name]._replace(triple=f"x86_64-linux-gnu.{glibc}")
    monkeypatch.setitem(wheels.TARGETS, name, target)
    source = "int pthread_create(void), secure_getenv(void);\n"
    source += "int f(void) { return pthread_create() + secure_getenv(); }\n"
    wheel = wheel_of(name, source)
    assert (check_wheels.linux_problems(wheel) == []) == right


@linux
def test_a_dll_that_is_wrong(wheel_of):
    names = sorted(check_wheels.declared() | {"causal_conv1d_torch_register"})
    right = "".join(f"__declspec(dllexport) void {name}(void) {{}}\n" for name in names)
    right += "int DllMainCRTStartup(void *a, int b, void *c) { return b || a || c; }\n"
    more = right + "__declspec(dllexport) void more(void) {}\n"
    less = right.replace(f" {names[0]}(", " more(")
    window = "int MessageBoxA(void *, char *, char *, int);\n"
    window += right.replace("b || a || c", "MessageBoxA(a, c, c, b)")

    def problems(source, *options):
        found = check_wheels.windows_problems(wheel_of("win_amd64", source, "-nostdlib", *options))
        return [problem.lower() for problem in found]

    assert problems(right) == []
    assert problems(more) == ["exports wrongly or not: more"]
    assert problems(less) == [f"exports wrongly or not: {n}" for n in sorted([names[0], "more"])]
    assert problems(window, "-luser32") == ["imports user32.dll"]
