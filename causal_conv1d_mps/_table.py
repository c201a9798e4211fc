"""Tables on a terminal."""

from __future__ import annotations


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table, as wide as its cells: nothing is cut, whatever it is printed to."""
    print(f"\n{title}")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
