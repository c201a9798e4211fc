"""The texts in src/gpu/source.c are those of the files they come from."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import embed

pytestmark = pytest.mark.cpu_only


def test_source_is_up_to_date():
    assert (embed.GPU / "source.c").read_text() == embed.source(), "run tools/embed.py"


def test_every_byte_survives(tmp_path):
    """Escapes beside digits, trigraphs, no newline at the end: C gives all the bytes back."""
    text = bytes(range(1, 256)) + b'\n"\\n"\t\x019 ??/ ??= %s\\\n\r\n\n\xc3\xa99'
    (tmp_path / "any.text").write_bytes(text)
    (tmp_path / "source.h").write_text("extern const char cc1d_any_text[];\n")
    (tmp_path / "source.c").write_text(
        embed.source(tmp_path, ["any.text"])
        + "#include <stdio.h>\nint main(void) { return fputs(cc1d_any_text, stdout) < 0; }\n"
    )
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "source.c", "-o", "print"], cwd=tmp_path, check=True)
    assert subprocess.check_output([tmp_path / "print"]) == text
