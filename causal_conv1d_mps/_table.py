"""Tables on a terminal."""

from __future__ import annotations


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table: by rich where it is installed, which is no requirement of the package."""
    print(f"\n{title}")
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(*header, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(width=100, highlight=False, markup=False).print(table)
