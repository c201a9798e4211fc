"""Checks a macOS wheel without a Mac: does it install, load, and find what it asks PyTorch for?

    python tools/check_macos.py build/macos/*.whl [--torch 2.13] [--keep]

PyTorch is no link dependency, the library looks its functions up when it is loaded.  So their
names stand in it as strings, and are compared with what PyTorch's own macOS wheels export.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import lief
from packaging.tags import compatible_tags, mac_platforms
from packaging.utils import parse_wheel_filename
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from wheels import ROOT, environment, zig

OLDEST_MACOS = (13, 0)
PYTHONS = [(3, minor) for minor in range(10, 15)]
OLDEST_TORCH = 10  # 2.10
TORCH_HEADER = ROOT / "src/core/libtorch.h"
# dlsym searches libtorch_cpu and the libraries that it is linked to; these two are PyTorch's own.
TORCH_LIBRARIES = ["torch/lib/libtorch_cpu.dylib", "torch/lib/libc10.dylib"]
# What PyTorch may lack on a Mac, by what must be there in its place, if anything.
OPTIONAL = {
    "aoti_torch_get_current_cuda_stream": None,
    "torch_delete_stable_ivalue": "_ZdlPv",  # operator delete
    "torch_exception_get_what_without_backtrace": None,
}
# What an encoder that runs launches side by side would be made with: src/gpu/metal.c relies on
# PyTorch's serial one, in which a launch sees what those before it wrote.
CONCURRENT = (b"computeCommandEncoderWithDispatchType:", b"memoryBarrier")
SYSTEM = "/usr/lib/libSystem.B.dylib"

lief.logging.disable()  # it remarks on tables that are empty


def parse(dylib: Path) -> lief.MachO.Binary:
    """The one architecture of a library, without what large ones are slow to read for."""
    config = lief.MachO.ParserConfig()
    config.parse_dyld_rebases = False
    binaries = lief.MachO.parse(str(dylib), config)
    if binaries is None or len(binaries) != 1:
        raise ValueError(f"{dylib} is not a library for one architecture")
    return binaries.at(0)


# ---- the library itself


def install_problems(wheel: Path) -> list[str]:
    """Which Pythons on the oldest macOS would not take the wheel, by its tag."""
    tags = parse_wheel_filename(wheel.name)[3]
    return [
        f"does not install on Python {major}.{minor}, macOS {OLDEST_MACOS[0]}"
        for major, minor in PYTHONS
        if tags.isdisjoint(
            compatible_tags((major, minor), platforms=list(mac_platforms(OLDEST_MACOS, "arm64")))
        )
    ]


def signature_problems(dylib: Path, binary: lief.MachO.Binary) -> list[str]:
    """What is wrong with the ad-hoc signature, without which Apple silicon loads no code.

    The format is that of Apple's cs_blobs.h (XNU sources): big-endian, in the last segment.
    """
    if not binary.has_code_signature:
        return ["is not signed"]
    data = dylib.read_bytes()
    start = binary.code_signature.data_offset
    (blobs,) = struct.unpack_from(">8xI", data, start)
    index = [struct.unpack_from(">II", data, start + 12 + 8 * i) for i in range(blobs)]
    at = start + dict(index).get(0, 0)  # slot 0: the code directory
    magic, _, _, flags, hashes, _, _, count, limit, size, kind, _, page = struct.unpack_from(
        ">9I4B", data, at
    )
    if magic != 0xFADE0C02 or (size, kind) != (32, 2):
        return ["has no code directory of SHA-256 hashes"]
    problems = [] if flags & 0x2 else ["is signed, but not ad hoc"]
    step = 1 << page
    expected = [hashlib.sha256(data[i : min(i + step, limit)]) for i in range(0, limit, step)]
    stored = data[at + hashes : at + hashes + size * count]
    if limit != start or stored != b"".join(page.digest() for page in expected):
        problems.append("was changed after it was signed")
    return problems


def library_problems(dylib: Path) -> list[str]:
    """What would keep the library from loading on the oldest macOS."""
    binary = parse(dylib)
    problems = signature_problems(dylib, binary)
    if binary.header.cpu_type != lief.MachO.Header.CPU_TYPE.ARM64:
        problems.append(f"is for {binary.header.cpu_type}")
    if tuple(binary.build_version.minos[:2]) != OLDEST_MACOS:
        problems.append(f"is for macOS {binary.build_version.minos}")
    for symbol in binary.imported_symbols:
        bound = symbol.has_binding_info and symbol.binding_info.has_library
        library = symbol.binding_info.library.name if bound else "no library"
        if library != SYSTEM:
            problems.append(f"takes {symbol.name} from {library}")
    return problems


# ---- what it asks PyTorch for


def declared(header: str) -> set[str]:
    """The functions in the lists of libtorch.h, of which ``header`` is the text."""
    lists = re.findall(r"^#define (TORCH_(?:MPS_)?FUNCTIONS)\(X\)", header, re.M)
    uses = [f"{name}(X)" for name in lists]
    text = "\n".join([header, "#define X(result, name, parameters) @name@", *uses, ""])
    output = subprocess.run(
        zig("cc", "-E", "-P", f"-I{TORCH_HEADER.parent}", "-x", "c", "-"),
        env=environment(),
        input=text,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return set(re.findall(r"@(\w+)@", output))


def requested(dylib: Path) -> set[str]:
    """The functions of PyTorch whose names the library holds."""
    binary = parse(dylib)  # which must live as long as its parts are read
    strings = bytes(binary.get_section("__cstring").content).decode().split("\0")
    return {s for s in strings if re.fullmatch(r"(aoti_)?torch_\w+|_Z\w+", s)}


def exported(dylibs: list[Path]) -> set[str]:
    """What dlsym finds in PyTorch's libraries, and of libc++ the operator delete they import."""
    names = set()
    for dylib in dylibs:
        binary = parse(dylib)
        names |= {symbol.name for symbol in binary.exported_symbols}
        names |= {symbol.name for symbol in binary.imported_symbols} & {"__ZdlPv"}
    return {name.removeprefix("_") for name in names}


def missing(requested: set[str], exported: set[str]) -> set[str]:
    """What the library asks for in vain and cannot do without."""
    absent = requested - exported - set(OPTIONAL.values())
    return {name for name in absent if OPTIONAL.get(name, name) not in exported | {None}}


def concurrent(dylib: Path) -> list[str]:
    """Which of the words of an encoder that runs launches side by side are in a library."""
    data = dylib.read_bytes()
    return [word.decode() for word in CONCURRENT if word in data]


# ---- PyTorch's wheels

MAC = ["--only-binary=:all:", "--platform=macosx_26_0_arm64", "--python-version=3.12"]


def pip(*arguments: str) -> str:
    """What pip prints."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def torch_minors() -> list[str]:
    """Every minor version of PyTorch for macOS from the oldest that we take."""
    text = pip("index", "versions", "torch", *MAC)
    minors = {int(minor) for minor in re.findall(r"\b2\.(\d+)\.\d+", text)}
    return [f"2.{minor}" for minor in sorted(minors) if minor >= OLDEST_TORCH]


def torch_exports(version: str, folder: Path, keep: bool) -> tuple[str, set[str], list[str]]:
    """The name of the newest macOS wheel of a minor version, what it exports, and its words of
    :func:`concurrent`."""
    place = folder / version
    if not list(place.glob("*.whl")):
        pip(
            "download",
            "-q",
            "--no-cache-dir",
            "--no-deps",
            *MAC,
            f"-d{place}",
            f"torch=={version}.*",
        )
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        dylibs = [Path(archive.extract(name, place)) for name in TORCH_LIBRARIES]
    names, words = exported(dylibs), concurrent(dylibs[0])
    for file in [*dylibs, *([] if keep else [wheel])]:
        file.unlink()
    return wheel.name, names, words


def main() -> int:
    """Prints what was found; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--torch", nargs="*", metavar="2.13", help="only these minor versions")
    parser.add_argument("--keep", action="store_true", help="keep what was downloaded")
    args = parser.parse_args()
    console = Console(highlight=False, width=120)

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(args.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dylib"))
        dylib = Path(archive.extract(name, folder))
        problems = [f"{dylib.name} {p}" for p in library_problems(dylib)]
        names = requested(dylib)
    problems += [f"{args.wheel.name} {p}" for p in install_problems(args.wheel)]
    problems += [
        f"{dylib.name} does not ask for {name}"
        for name in sorted(declared(TORCH_HEADER.read_text()) - names)
    ]

    table = Table("wheel of PyTorch", "found", "missing", "does without")
    for version in args.torch or torch_minors():
        wheel, there, words = torch_exports(version, ROOT / "build/torch-wheels", args.keep)
        lacking = missing(names, there)
        problems += [f"{wheel} lacks {name}" for name in sorted(lacking)]
        problems += [f"{wheel} may run launches side by side: it has {word}" for word in words]
        found, without = names & there, names - there - lacking - set(OPTIONAL.values())
        table.add_row(wheel, str(len(found)), str(len(lacking)), "\n".join(sorted(without)))
    console.print(table)
    for problem in problems:
        console.print(f"[bold red]{escape(problem)}[/]")
    if not problems:
        console.print(f"{dylib.name}: arm64, macOS 13.0, signed ad hoc, takes from {SYSTEM} alone")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
