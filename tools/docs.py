"""Builds the documentation: python tools/docs.py

The pages are also read where they lie, on GitHub for one.  There their links go to files beside the
folder, which a site does not have, and GitHub shows no snippets.  So build/docs gets

- the pages with copies of the files that they link to;
- the figures that ``<!-- figure: name, what it shows -->`` asks for;
- what stands in a comment that begins with a line ``<!-- site``;
- the version, and a link to the repository if it is known, for ``<!-- version -->``.

build/site is made of it by Zensical, which takes the API from the docstrings by way of mkdocstrings
and ``Roles``.  llms.txt there lists the pages.
"""

from __future__ import annotations

import os
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
                module = (
                    "compat.serving" if match[1].endswith(("prefill", "decode")) else "functional"
                )
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


def repository() -> str | None:
    """The address of the sources: of the workflow that runs this, or of the clone's origin."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ['GITHUB_SERVER_URL']}/{name}"
    command = ["git", "remote", "get-url", "origin"]
    found = subprocess.run(command, cwd=ROOT, text=True, capture_output=True).stdout.strip()
    return found.removesuffix(".git") if found.startswith("https://") else None


def for_the_site(text: str) -> str:
    """A page's text with what only the site shows."""
    text = re.sub(r"<!-- site\n(.*?)\n-->", r"\1", text, flags=re.S)
    header = (ROOT / "include/causal_conv1d.h").read_text()
    version = re.search(r'define CAUSAL_CONV1D_VERSION "(.*)"', header)[1]
    link = f", [sources]({address})" if (address := repository()) else ""
    return text.replace("<!-- version -->", f"This is version {version}{link}.")


def llms() -> str:
    """The pages with the first sentence of each, as https://llmstxt.org wants them."""
    config = (ROOT / "zensical.toml").read_text()
    summary = re.search('site_description = "(.*)"', config)[1]
    lines = ["# causal-conv1d-mps", "", f"> {summary}", ""]
    for title, page in re.findall(r'{ "(.*?)" = (?:"(.*)\.md"|\[)', config):
        if page:
            paragraph = " ".join((STAGE / f"{page}.md").read_text().split("\n\n")[1].split())
            sentence = re.split(r"(?<=\.) ", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", paragraph))[0]
            lines.append(f"- [{title}]({page}.html): {sentence}")
        else:
            lines += ["", f"## {title}", ""]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Makes the folder, builds the site and checks its links; the exit code."""
    import plots  # not above: mkdocstrings takes this file as an extension, from another folder

    for folder in (STAGE, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, STAGE)
    for page in STAGE.glob("*.md"):
        page.write_text(figures(staged(for_the_site(page.read_text()))))
    list(plots.draw(plots.read(sorted(plots.RESULTS.glob("*.json"))), STAGE / "figures"))
    for command in (
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        [Path(sys.executable).with_name("linkchecker"), "--no-status", "--no-warnings",
         SITE / "index.html"],
    ):  # fmt: skip
        if code := subprocess.call(command, cwd=ROOT):
            return code
    (SITE / "llms.txt").write_text(llms())
    return 0


if __name__ == "__main__":
    sys.exit(main())
