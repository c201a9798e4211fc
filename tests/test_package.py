"""The library outside of a Python call: its builds, its C programs, its PyTorch interface."""

import ctypes
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import causal_conv1d_mps
from causal_conv1d_mps import _library

pytestmark = pytest.mark.cpu_only

ROOT = Path(__file__).parent.parent
LIBRARY = Path(_library.library._name)


def run(*command, **environment):
    """Runs a command to success and returns its output."""
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, text=True, capture_output=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def python(code, **environment):
    return run(sys.executable, "-c", code, **environment).strip()


@pytest.mark.parametrize("compiler", ["cc", "clang"])
def test_c_suite(compiler):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    build = f"BUILD=build/with-{compiler}"
    output = run("make", "check", "-j2", build, f"CC={compiler}", f"PYTHON={sys.executable}")
    assert output.count(" passed, 0 failed") == len(list((ROOT / "tests/c").glob("check_*.c")))


def test_prototypes_are_those_of_pytorch():
    include = Path(torch.__file__).parent / "include"
    run("c++", "-std=c++20", "-fsyntax-only", f"-I{include}", "tests/libtorch_abi.cpp")


@pytest.mark.parametrize(
    ("hide", "isas"),
    [
        ("", ("avx512", "avx2", "scalar")),
        ("avx512f", ("avx2", "scalar")),
        ("avx512bw,fma", ("scalar",)),
        ("avx2", ("scalar",)),
    ],
)
def test_hidden_features(hide, isas):
    code = (
        "import torch, causal_conv1d_mps as c\n"
        "x, w = torch.randn(2, 5, 40), torch.randn(5, 4)\n"
        "torch.testing.assert_close(c.causal_conv1d(x, w), c.causal_conv1d_ref(x, w))\n"
        "print(c._library.library.causal_conv1d_isa().decode())"
    )
    assert python(code, CAUSAL_CONV1D_HIDE=hide) in isas


@pytest.mark.parametrize("hide", ["avx512f", "avx2"])
def test_sequences_and_updates_with_hidden_features(hide):
    """The whole API against float64 on the kernels that this CPU would not choose."""
    files = ["tests/test_sequences.py", "tests/test_update.py"]
    quick = "not dims and not lengths and not threads and not opcheck and not compiled"
    command = [sys.executable, "-m", "pytest", "-q", *files, "--draws", "150", "-k", quick]
    assert " passed" in run(*command, CAUSAL_CONV1D_HIDE=hide)


def test_every_signature():
    expected = {
        "causal_conv1d": "(x, weight, bias=None, activation=None)",
        "causal_conv1d_fn": "(x, weight, bias=None, seq_idx=None, initial_states=None, "
        "return_final_states=False, final_states_out=None, activation=None)",
        "causal_conv1d_fwd": "(x, weight, bias=None, silu_activation=False)",
        "causal_conv1d_update": "(x, conv_state, weight, bias=None, activation=None, "
        "cache_seqlens=None, conv_state_indices=None)",
        "causal_conv1d_varlen_states": "(x, cu_seqlens, state_len)",
        "causal_conv1d_varlen_fn": "(x, weight, bias=None, cu_seqlens=None, "
        "initial_states=None, return_final_states=False, activation=None)",
    }
    for name, text in expected.items():
        signature = inspect.signature(getattr(causal_conv1d_mps, name))
        bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        assert str(inspect.Signature(bare)) == text
    for name in causal_conv1d_mps.__all__:
        assert name == "__version__" or getattr(causal_conv1d_mps, name).__doc__, name


def test_version_is_that_of_the_header():
    header = (ROOT / "include/causal_conv1d.h").read_text()
    assert f'define CAUSAL_CONV1D_VERSION "{causal_conv1d_mps.__version__}"' in header


def test_without_or_with_an_old_pytorch(tmp_path):
    """The library says what it misses, in a process of its own that has no PyTorch."""
    register = (
        "import ctypes; r = ctypes.CDLL({library!r}).causal_conv1d_torch_register\n"
        "r.restype = ctypes.c_char_p; r.argtypes = [ctypes.c_char_p]; print(r({path!r}).decode())"
    )
    none = python(register.format(library=str(LIBRARY), path=None))
    assert none == "causal_conv1d_mps needs PyTorch >= 2.10, and found none loaded"

    (tmp_path / "old.c").write_text(
        "#include <stdint.h>\n"
        "uint64_t aoti_torch_abi_version(void) { return UINT64_C(0x0209000000000000); }\n"
    )
    old = tmp_path / "libold.so"
    run("cc", "-shared", "-fPIC", str(tmp_path / "old.c"), "-o", str(old))
    load_old = f"import ctypes; keep = ctypes.CDLL({str(old)!r})\n"
    error = python(load_old + register.format(library=str(LIBRARY), path=str(old).encode()))
    assert error.startswith(
        "causal_conv1d_mps needs PyTorch >= 2.10, but 2.9 is loaded, which lacks"
    )


# Kernels of one width, the example's: compiled in a quarter of the time.
ONE_WIDTH = "-DCC1D_WIDTHS(X)=X(4)"


def test_the_command_of_the_page_on_c_builds_the_library(tmp_path):
    """It leaves one file, which has the public functions and no other."""
    library = tmp_path / "libcausal_conv1d.so"
    make, cc = re.findall(r"^    (make src.*|cc .*)$", (ROOT / "docs/c.md").read_text(), re.M)
    assert cc.endswith(" -o libcausal_conv1d.so")
    quick = cc.replace(" -O2 ", f" '{ONE_WIDTH}' -O1 ").replace(library.name, str(library))
    run("sh", "-c", f"set -e; {make}; {quick}")
    version = ctypes.CDLL(str(library)).causal_conv1d_version
    version.restype = ctypes.c_char_p
    assert version().decode() == causal_conv1d_mps.__version__
    names = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    assert names and all(name.startswith("causal_conv1d_") for name in names)


def test_installed_for_c(tmp_path):
    """cmake --install gives a C program header and library, by find_package and pkg-config."""
    build, user = tmp_path / "build", tmp_path / "user"
    options = (f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'prefix'}", f'-DCMAKE_C_FLAGS="{ONE_WIDTH}"')
    run("cmake", "-S", str(ROOT), "-B", str(build), *options)
    run("cmake", "--build", str(build), "-j2")
    prefix = tmp_path / "elsewhere"
    run("cmake", "--install", str(build), "--prefix", str(prefix))
    user.mkdir()
    shutil.copy(ROOT / "examples/example.c", user)
    (user / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user C)\n"
        "find_package(causal_conv1d 0.1 REQUIRED)\nadd_executable(example example.c)\n"
        "target_link_libraries(example causal_conv1d::causal_conv1d m)\n"
    )
    run("cmake", "-S", str(user), "-B", str(user / "b"), f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", str(user / "b"))
    by_cmake = run(str(user / "b/example"))
    assert by_cmake

    config = next(prefix.glob("**/causal_conv1d.pc"))
    values = dict(line.split("=", 1) for line in config.read_text().splitlines() if "=" in line)
    found = Path(values["prefix"].replace("${pcfiledir}", str(config.parent))).resolve()
    assert found == prefix.resolve()
    include = values["includedir"].replace("${prefix}", str(found))
    libdir = values["libdir"].replace("${prefix}", str(found))
    run("cc", str(user / "example.c"), f"-I{include}", f"-L{libdir}", "-lcausal_conv1d", "-lm",
        "-o", str(user / "example"))  # fmt: skip
    assert run(str(user / "example"), LD_LIBRARY_PATH=libdir) == by_cmake


def test_static_part_of_a_project(tmp_path):
    """add_subdirectory gives a C program the library within its own file."""
    shutil.copy(ROOT / "examples/example.c", tmp_path)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user C)\nset(BUILD_SHARED_LIBS OFF)\n"
        f"add_subdirectory({ROOT} conv)\nadd_executable(example example.c)\n"
        "target_link_libraries(example causal_conv1d::causal_conv1d m)\n"
    )
    build = str(tmp_path / "build")
    flags = ("-DCMAKE_BUILD_TYPE=Debug", f'-DCMAKE_C_FLAGS="{ONE_WIDTH}"')
    run("cmake", "-S", str(tmp_path), "-B", build, *flags)
    run("cmake", "--build", build, "--target", "example", "-j2")
    assert run(f"{build}/example") and not list(tmp_path.rglob("*.so*"))


def test_library_needs_only_libc():
    """One library for every Python and PyTorch: it links neither."""
    needed = subprocess.run(["ldd", str(LIBRARY)], text=True, capture_output=True).stdout
    names = {line.split()[0].split(".so")[0] for line in needed.splitlines() if "=>" in line}
    assert names <= {"libm", "libc", "libdl", "libpthread"}, needed


def test_wheel_installs_and_runs(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
        "-w", str(tmp_path), ".")  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-t", str(tmp_path / "site"),
        str(wheel))  # fmt: skip
    # -S keeps the editable install out, whose import hook would come first.
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "import torch, causal_conv1d_mps as c\n"
        "assert c.__file__.startswith(sys.argv[1]), c.__file__\n"
        "assert c.native_error is None, c.native_error\n"
        "print(tuple(c.causal_conv1d(torch.ones(1, 2, 3), torch.ones(2, 2))[0, 0].tolist()))"
    )
    packages = str(Path(torch.__file__).parent.parent)
    assert run(sys.executable, "-S", "-c", code, str(tmp_path / "site"), packages).strip() == (
        "(1.0, 2.0, 2.0)"
    )
