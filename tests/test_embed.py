"""The texts for GPU compilers, as src/gpu/embed.awk writes them for C and for the wheel."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.cpu_only

GPU = Path(__file__).resolve().parent.parent / "src/gpu"
# Escapes, trigraphs, control characters, digits behind them, UTF-8, no newline at the end.
HARD = bytes(set(range(1, 128)) - {10, 13}) + b'\n"\\n"\t\x019 ??/ ??= %s\\\n\n\n\xc3\xa99'


def embed(*arguments, cwd=GPU):
    """What embed.awk prints."""
    command = ["awk", "-f", GPU / "embed.awk", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True).stdout


def compiled(source, names, folder):
    """The texts of those names in source, as C has them."""
    prints = "".join(f"fputs(cc1d_{name}, stdout);" for name in names)
    program = source.decode() + f"#include <stdio.h>\nint main(void) {{ {prints} return 0; }}\n"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-x", "c", "-", "-o", "print"]
    subprocess.run(["cc", *flags], input=program, text=True, cwd=folder, check=True)
    return subprocess.check_output([folder / "print"])


def test_the_texts_are_those_of_the_files(tmp_path):
    texts = (GPU / "args.h", GPU / "causal_conv1d.metal", GPU / "metal_on_cuda.h")
    names = [path.name.replace(".", "_") for path in texts]
    found = compiled(embed("source.h"), names, tmp_path).decode()
    (shader,) = (path for path in texts if path.suffix == ".metal")
    joined = [embed("-v", "join=1", path.name).decode() for path in texts]
    assert found == "".join(joined)
    assert joined[0] == texts[0].read_text() and joined[2] == texts[2].read_text()
    assert shader.read_text().splitlines()[0] in joined[1]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_every_byte_survives_and_parts_are_joined(tmp_path, newline):
    parts = tmp_path / "parts"
    parts.mkdir()
    whole = b'// first\n#include <metal_stdlib>\n#include "args.h"\n%s// last\n'
    whole = whole.replace(b"\n", newline)
    (tmp_path / "any.metal").write_bytes(whole % (b'#include "parts/hard.metal"' + newline))
    (parts / "hard.metal").write_bytes(b'#include "more.metal" // beside it' + newline + HARD)
    (parts / "more.metal").write_bytes(b"// more")
    (tmp_path / "source.h").write_text("extern const char cc1d_text[]; /* any.metal */\n")
    expected = (whole % (b"// more\n" + HARD + b"\n")).replace(b"\r\n", b"\n")
    assert embed("-v", "join=1", "any.metal", cwd=tmp_path) == expected
    assert compiled(embed("source.h", cwd=tmp_path), ["text"], tmp_path) == expected


@pytest.mark.parametrize("arguments", [["source.h"], ["-v", "join=1", "any.metal"]])
def test_a_missing_part_is_an_error(tmp_path, arguments):
    (tmp_path / "source.h").write_text("extern const char cc1d_text[]; /* any.metal */\n")
    (tmp_path / "any.metal").write_text('#include "none.metal"\n')
    with pytest.raises(subprocess.CalledProcessError) as error:
        embed(*arguments, cwd=tmp_path)
    assert error.value.stderr == b"embed.awk: cannot read none.metal\n"
