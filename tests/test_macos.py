"""The macOS wheel as it is cross-built here, and whether its checks see what is wrong.

PyTorch is a stand-in here: `make macos` downloads its macOS wheels, 100 MB each.
"""

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("lief")
pytest.importorskip("ziglang")
pytest.importorskip("zopfli")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import check_macos
import wheels

pytestmark = [
    pytest.mark.cpu_only,
    pytest.mark.skipif(sys.platform != "linux", reason="the wheels are built on Linux"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return wheels.build("macosx_13_0_arm64", tmp_path_factory.mktemp("macos"))


@pytest.fixture(scope="module")
def dylib(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract("causal_conv1d_mps/libcausal_conv1d.dylib", wheel.parent))


@pytest.fixture
def compiled(tmp_path):
    """Compiles a library for a Mac from C."""

    def compiled(source, *options):
        library = tmp_path / "library.dylib"
        command = wheels.zig(
            "cc", "-target", "aarch64-macos.13.0", "-shared", *options, "-x", "c", "-"
        )
        environment = wheels.environment()
        subprocess.run(
            [*command, "-o", library], input=source, text=True, env=environment, check=True
        )
        return library

    return compiled


def test_wheel(wheel, dylib):
    assert check_macos.install_problems(wheel) == []
    assert check_macos.library_problems(dylib) == []
    declared = check_macos.declared(check_macos.TORCH_HEADER.read_text())
    assert any(name.startswith("aoti_torch_mps_") for name in declared)
    assert declared <= check_macos.requested(dylib)


def test_same_bytes_wherever_built(wheel, dylib, tmp_path):
    """The second build takes nothing from the first: Zig's cache of objects is another."""
    again = wheels.build("macosx_13_0_arm64", tmp_path, objects=tmp_path / "objects")
    assert again.read_bytes() == wheel.read_bytes()
    assert str(wheels.ROOT).encode() not in dylib.read_bytes()


def test_functions_that_pytorch_lacks(dylib, compiled):
    names = check_macos.requested(dylib)
    optional, replacement = "torch_delete_stable_ivalue", "_ZdlPv"

    def missing(*absent, code=""):
        there = names - {replacement, *absent}
        source = "".join(f"void {name}(void) {{}}\n" for name in sorted(there)) + code
        library = compiled(source, "-Wl,-undefined,dynamic_lookup")
        return check_macos.missing(names, check_macos.exported([library]))

    assert missing() == set()
    assert missing("torch_parallel_for") == {"torch_parallel_for"}
    assert missing("aoti_torch_mps_set_arg_int") == {"aoti_torch_mps_set_arg_int"}
    assert missing("torch_exception_get_what_without_backtrace") == set()
    assert missing(optional) == {optional}
    operator_delete = f"void {replacement}(void *);\nvoid f(void) {{ {replacement}(0); }}\n"
    assert missing(optional, code=operator_delete) == set()


def test_functions_that_nobody_has(dylib):
    """One more in the list of libtorch.h: the list is read, not a copy of it."""
    header = check_macos.TORCH_HEADER.read_text()
    start = "#define TORCH_FUNCTIONS(X)"
    longer = header.replace(start, f"{start} X(void, torch_of_tomorrow, (int, void *))")
    added = check_macos.declared(longer) - check_macos.declared(header)
    assert added == {"torch_of_tomorrow"}
    assert added.isdisjoint(check_macos.requested(dylib))


def test_an_encoder_that_is_not_serial_is_noticed(dylib, compiled):
    assert check_macos.concurrent(dylib) == []
    library = compiled('const char *f(void) { return "memoryBarrierWithScope:"; }\n')
    assert check_macos.concurrent(library) == ["memoryBarrier"]


def test_libraries_that_would_not_load(dylib, compiled):
    """Each of the checks of the library finds its fault."""
    foreign = "void torch_f(void);\nvoid f(void) { torch_f(); }\n"
    library = compiled(foreign, "-Wl,-undefined,dynamic_lookup")
    assert check_macos.library_problems(library) == ["takes _torch_f from no library"]

    def problems(old, new):
        changed = dylib.with_name("changed.dylib")
        assert old in dylib.read_bytes()
        changed.write_bytes(dylib.read_bytes().replace(old, new, 1))
        signature, *others = check_macos.library_problems(changed)
        assert signature == "was changed after it was signed"
        return others

    assert problems(b"torch_parallel_for", b"torch_parallel_fro") == []
    assert problems(b"\x0c\0\0\1", b"\x07\0\0\1") == ["is for CPU_TYPE.X86_64"]
    macos_13, macos_14 = (struct.pack("<4I", 0x32, 32, 1, major << 16) for major in (13, 14))
    assert problems(macos_13, macos_14) == ["is for macOS [14, 0, 0]"]


@pytest.mark.parametrize("tag", ["macosx_14_0_arm64", "macosx_13_0_x86_64", "linux_x86_64"])
def test_tags_that_do_not_install(tag):
    problems = check_macos.install_problems(Path(f"p-0.1.0-py3-none-{tag}.whl"))
    assert len(problems) == len(check_macos.PYTHONS)
