"""Writes src/gpu/source.c: the texts that the library hands to GPU compilers, as C strings.

    python tools/embed.py

The result is checked in, for ``cc src/*.c src/*/*.c`` must build the library with no step before
it, and C11 can embed nothing.  The array of a file is called after it, and source.h declares it.
"""

from pathlib import Path

GPU = Path(__file__).resolve().parent.parent / "src/gpu"
TEXTS = ["args.h", "causal_conv1d.metal", "metal_on_cuda.h"]
# Octal, for three digits never run into what follows them; "??" would begin a trigraph.
ESCAPES = {i: f"\\{i:03o}" for i in range(256) if not 32 <= i < 127} | {
    ord("\t"): "\\t", ord("\n"): "\\n", ord('"'): '\\"', ord("?"): "\\?", ord("\\"): "\\\\",
}  # fmt: skip


def array(path: Path) -> str:
    """The definition of a text, a line of C for each of its lines."""
    name = "cc1d_" + path.name.replace(".", "_")
    # As bytes: a character of UTF-8 is several in C.
    lines = path.read_bytes().decode("latin-1").splitlines(keepends=True) or [""]
    text = "\n".join(f'    "{line.translate(ESCAPES)}"' for line in lines)
    return f"const char {name}[] =\n{text};\n"


def source(folder: Path = GPU, texts: list[str] = TEXTS) -> str:
    """All of source.c."""
    head = "/* The texts that GPU compilers get.  Written by tools/embed.py: do not edit. */\n"
    head += '/* clang-format off */\n#include "source.h"\n'
    return "\n".join([head, *(array(folder / text) for text in texts)])


if __name__ == "__main__":
    (GPU / "source.c").write_text(source())
