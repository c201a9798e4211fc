"""Builds the documentation: python tools/docs.py

The pages also are to be read where they lie, so their links go to files beside the folder; a site
has no such files.  build/docs holds the pages with whatever they link to and the figures that
``<!-- figure: name, what it shows -->`` asks for.  build/site is made of it by Zensical, which
takes the API from the docstrings by way of mkdocstrings and ``Roles``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parent.parent
HEADED = ("functional", "reference")  # modules that the page introduces in its own words
DOCS, STAGE, SITE = ROOT / "docs", ROOT / "build/docs", ROOT / "build/site"


class Roles(griffe.Extension):
    """Links for the ``:func:`` and ``:mod:`` of docstrings."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.name in HEADED:
            obj.docstring = None
        elif obj.docstring:
            name = r":func:`(?:causal_conv1d_mps\.)?(causal_\w+(?<!_ref))`"

            def link(match: re.Match[str]) -> str:
                module = "serving" if match[1].endswith(("prefill", "decode")) else "functional"
                return f"[`{match[1]}`][causal_conv1d_mps.{module}.{match[1]}]"

            text = re.sub(name, link, obj.docstring.value)
            obj.docstring.value = re.sub(r":\w+:`", "`", text)


def staged(text: str, page: Path = DOCS / "index.md") -> str:
    """A page's text with links to files outside of docs/ turned into links to copies of them."""

    def link(match: re.Match[str]) -> str:
        path = (page.parent / match[1]).resolve()
        if path.is_relative_to(DOCS) or not path.is_relative_to(ROOT):
            return match[0]
        copy = STAGE / "files" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        if path.suffix == ".md":  # a page of the site as well: its own links count
            copy.write_text(re.sub(r"\]\((?!\w+:|#)[^)]*\)", "]", copy.read_text()))
        return f"]({copy.relative_to(STAGE)}{match[2] or ''})"

    return re.sub(r"\]\((\.\./[^)#]+)(#[^)]*)?\)", link, text)


def figures(text: str) -> str:
    """A page's text with the figures that it asks for, in both themes."""
    shown = "\n".join(rf"![\2](figures/\1-{t}.svg#only-{t})" for t in ("light", "dark"))
    return re.sub(r"<!-- figure: (\w+), (.*) -->", shown, text)


def main() -> int:
    """Makes the folder, builds the site and checks its links; the exit code."""
    import plots  # not above: mkdocstrings takes this file as an extension, from another folder

    for folder in (STAGE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, STAGE)
    for page in STAGE.glob("*.md"):
        page.write_text(figures(staged(page.read_text())))
    list(plots.draw(plots.read(sorted(plots.RESULTS.glob("*.json"))), STAGE / "figures"))
    for command in (
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        [Path(sys.executable).with_name("linkchecker"), "--no-status", "--no-warnings",
         SITE / "index.html"],
    ):  # fmt: skip
        if code := subprocess.call(command, cwd=ROOT):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
