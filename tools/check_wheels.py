"""Checks every wheel that tools/wheels.py made, without the systems they are for.

    python tools/check_wheels.py build/wheels/*.whl

Linux: what auditwheel says of its symbols.  Windows: what the DLL imports and exports.  macOS is
check_macos.py's.  All: what lies inside.  Then a program in C runs with the library of the wheel,
under qemu-aarch64 or Wine where they are installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import lief
from rich.console import Console
from wheels import MAX_BYTES, ROOT, TARGETS, environment, zig

INSIDE = {
    "causal_conv1d_mps/causal_conv1d.h": ROOT / "include/causal_conv1d.h",
    "causal_conv1d_mps/causal_conv1d.metal": ROOT / "src/gpu/causal_conv1d.metal",
    "causal_conv1d_mps/bench/__init__.py": ROOT / "causal_conv1d_mps/bench/__init__.py",
    "causal_conv1d_mps/__main__.py": ROOT / "causal_conv1d_mps/__main__.py",
    "licenses/LICENSE": ROOT / "LICENSE",
}
# What every Windows 10 has: the universal C runtime, and the kernel.
WINDOWS = re.compile(r"api-ms-win-crt-[a-z]+-l1-1-0\.dll|kernel32\.dll|ntdll\.dll", re.I)
# What runs the programs of a platform on Linux x86-64.
RUNNERS = {
    "manylinux_2_17_x86_64": [],
    "manylinux_2_17_aarch64": ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
    "win_amd64": ["wine"],
}


def content(source: Path) -> bytes:
    """What a wheel has of a file: the shader with its parts joined."""
    if source.suffix != ".metal":
        return source.read_bytes()
    command = ["awk", "-f", ROOT / "src/gpu/embed.awk", "-v", "join=1", source]
    return subprocess.check_output(command)


def content_problems(wheel: Path) -> list[str]:
    """Size and files."""
    problems = []
    if wheel.stat().st_size > MAX_BYTES:
        problems.append(f"has {wheel.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for end, source in INSIDE.items():
            found = [name for name in names if name.endswith(end)]
            if len(found) != 1 or archive.read(found[0]) != content(source):
                problems.append(f"has no {source.relative_to(ROOT)} as it is now")
    libraries = [name for name in names if name.endswith((".so", ".dylib", ".dll"))]
    if len(libraries) != 1:
        problems.append(f"has the libraries {libraries}")
    return problems


def linux_problems(wheel: Path) -> list[str]:
    """What auditwheel finds to be newer than the tag."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    text = " ".join(subprocess.check_output(command, text=True).split())
    (tag,) = re.findall(r"manylinux_2_17_\w+(?=\.whl is consistent)", text) or [""]
    if f'consistent with the following platform tag: "{tag}"' not in text or not tag:
        return [text]
    return []


def declared() -> set[str]:
    """The functions of the header."""
    text = (ROOT / "include/causal_conv1d.h").read_text()
    return set(re.findall(r"^(?:CAUSAL_CONV1D_API [^(\n]*?)?\*?(causal_conv1d_\w+)\(", text, re.M))


def windows_problems(wheel: Path) -> list[str]:
    """Imports that a plain Windows lacks, exports that are missing or too many."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dll"))
        binary = lief.PE.parse(list(archive.read(name)))
    problems = [f"imports {i.name}" for i in binary.imports if not WINDOWS.fullmatch(i.name)]
    exports = {entry.name for entry in binary.get_export().entries}
    wanted = declared() | {"causal_conv1d_torch_register"}
    if binary.header.machine != lief.PE.Header.MACHINE_TYPES.AMD64:
        problems.append(f"is for {binary.header.machine}")
    return problems + [f"exports wrongly or not: {name}" for name in sorted(exports ^ wanted)]


def platform_of(wheel: Path) -> str:
    """The last part of its name, a key of ``TARGETS``."""
    return wheel.stem.rpartition("-")[2]


def run_problems(wheel: Path) -> list[str]:
    """Whether examples/example.c, linked to the library of the wheel, says the same with the
    vectors of this CPU as with the scalar code."""
    platform = platform_of(wheel)
    header = (ROOT / "src/cpu/features.h").read_text()
    (features,) = re.findall(r"#define CC1D_FEATURES\(X\)((?: X\(\w+\))+)", header)
    hidden = ",".join(re.findall(r"X\((\w+)\)", features))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith((".so", ".dll")))
        for file in (name, "causal_conv1d_mps/causal_conv1d.h"):
            Path(folder, Path(file).name).write_bytes(archive.read(file))
        source, library, program = ROOT / "examples/example.c", Path(name).name, "example.exe"
        command = zig(
            "cc", "-target", TARGETS[platform].triple, "-I.", source, library, "-o", program
        )
        command += [] if "win" in platform else ["-Wl,-rpath,$ORIGIN", "-lm"]
        subprocess.run(command, cwd=folder, env=environment(), check=True)
        outputs = []
        for hide in ("", hidden):
            variables = {**os.environ, "CAUSAL_CONV1D_HIDE": hide, "WINEDEBUG": "-all"}
            result = subprocess.run(
                [*RUNNERS[platform], f"./{program}"],
                cwd=folder, env=variables, text=True, capture_output=True,
            )  # fmt: skip
            if result.returncode:
                return [f"does not run: {result.stderr or result.returncode}"]
            outputs.append(result.stdout.splitlines())
    (first, *vectors), (second, *scalar) = outputs
    problems = [] if second.endswith(", scalar") != first.endswith(", scalar") else [first, second]
    return problems + [
        f"{v} with vectors, {s}" for v, s in zip(vectors, scalar, strict=True) if v != s
    ]


def main() -> int:
    """Prints what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    args = parser.parse_args()
    console, wrong = Console(width=120, highlight=False, markup=False), False
    for wheel in args.wheels:
        problems, ran = content_problems(wheel), ""
        if "manylinux" in wheel.name:
            problems += linux_problems(wheel)
        if "win_amd64" in wheel.name:
            problems += windows_problems(wheel)
        runner = RUNNERS.get(platform_of(wheel))
        if runner == [] or (runner and shutil.which(runner[0])):
            problems, ran = problems + run_problems(wheel), ", ran"
        console.print(f"{wheel.name}: {'; '.join(problems) or 'right'}{ran}")
        wrong |= bool(problems)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
