"""The documentation: its Python runs, and it has every public name."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from mktestdocs import check_md_file

import causal_conv1d_mps
from causal_conv1d_mps import __main__ as command_line
from causal_conv1d_mps import hub, serving
from causal_conv1d_mps.bench.show import as_lines

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import plots

pytestmark = pytest.mark.cpu_only

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path for path in ROOT.glob("src/*") if path.is_dir())
PAGES = sorted(
    [
        *(
            ROOT / name
            for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "compat/README.md")
        ),
        *ROOT.glob("docs/*.md"),
        *(folder / "README.md" for folder in FOLDERS),
    ]
)
RESULTS = sorted(plots.RESULTS.glob("*.json"))
# What the build makes, and git does not keep.
IGNORED = {Path(line).name for line in (ROOT / ".gitignore").read_text().split()} | {".git"}
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text()]


def page_id(page):
    return str(page.relative_to(ROOT))


def test_pages_with_python_are_found():
    assert {"README.md", "index.md", "packed.md"} <= {page.name for page in WITH_PYTHON}


@pytest.mark.parametrize("page", WITH_PYTHON, ids=page_id)
def test_python_runs(page):
    check_md_file(fpath=page, memory=True)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for path, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


# A path from the root, in code blocks too; and a file that is named without its folder.
TOP = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in IGNORED)
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, TOP))})/[\w./-]*\b/?")
NAME = re.compile(r"`(\w[\w.-]*\.(?:c|h|py|md|metal|awk|toml|cff))`")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    here = {path.name for top in TOP for path in (ROOT / top).rglob("*")} | set(os.listdir(ROOT))
    missing = [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    missing += [name for name in NAME.findall(text) if name not in here]
    assert not [path for path in missing if Path(path).name not in IGNORED]


def members(objects):
    """Public names of functions and classes, with the public methods of those that are ours."""
    for name, value in objects.items():
        yield name, value
        if inspect.isclass(value):
            for method in (m for m in vars(value) if not m.startswith("_")):
                if callable(getattr(value, method)):
                    yield f"{name}.{method}", getattr(value, method)


PUBLIC = dict(
    members(
        {
            name: getattr(module, name)
            for module in (causal_conv1d_mps, serving, hub)
            for name in module.__all__
            if name not in ("__version__", "REPOSITORY")
        }
    )
)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name):
    """It is there, and speaks of every parameter that a function it refers to has not."""
    value = PUBLIC[name]
    text = inspect.getdoc(value)
    assert text and len(text) > 5
    if inspect.isfunction(value) and "See the class" not in text:
        parameters = set(inspect.signature(value).parameters) - {"self"}
        for other in re.findall(r":func:`(?:causal_conv1d_mps\.)?(\w+)`", text):
            parameters -= set(inspect.signature(PUBLIC[other]).parameters)
        assert not [p for p in parameters if not re.search(rf"\b{p}\b", text)]


def test_reference_has_every_public_name():
    """By module, as mkdocstrings takes them: what a module documents is what it has."""
    page = (ROOT / "docs/reference.md").read_text()
    asked = re.findall(r"^::: (\S+)", page, re.M)
    for name, value in PUBLIC.items():
        path = f"{value.__module__}.{name}"
        assert any(path == a or path.startswith(f"{a}.") for a in asked), name
    assert "causal_conv1d_mps.__version__`" in page


def test_every_function_of_the_header_is_in_the_page_on_c():
    assert '"include/causal_conv1d.h"' in (ROOT / "docs/c.md").read_text()


@pytest.mark.parametrize("word", ["info", "selftest", "bench", "install"])
def test_every_command_is_documented(word, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["causal_conv1d_mps", "--help"])
    with pytest.raises(SystemExit):
        command_line.main()
    assert f"\n    {word}" in capsys.readouterr().out
    assert f"| `{word}" in (ROOT / "docs/index.md").read_text()


def test_the_version_has_an_entry():
    assert f"\n## {causal_conv1d_mps.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {causal_conv1d_mps.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_hooks_are_the_commands_of_make_lint():
    hooks = re.findall(r"entry: \.venv/bin/(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    recipe = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    commands = re.findall(r"^\t\$\(BIN\)/(.*?)(?: \.| \$\$.*)?$", recipe, re.M)
    assert hooks and hooks == commands


def test_every_target_of_the_makefile_is_explained():
    help = subprocess.check_output(["make", "-s", "help"], cwd=ROOT, text=True)
    explained = {line.split()[0] for line in help.splitlines()}
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert explained == set(phony[1].replace("\\", "").split())


def test_the_figure_is_that_of_the_results():
    assert plots.SPEEDUP.read_text() == plots.speedup(plots.read(sorted(RESULTS)))
    ElementTree.parse(plots.SPEEDUP)


@pytest.mark.parametrize("path", [*RESULTS, *plots.RESULTS.glob("*/*.json")], ids=lambda p: p.name)
def test_results_have_a_row_a_line(path):
    text = path.read_text()
    assert text == as_lines(json.loads(text))


def test_every_figure_that_a_page_asks_for_is_drawn(tmp_path):
    asked = {
        name for page in PAGES for name in re.findall(r"<!-- figure: (\w+), ", page.read_text())
    }
    drawn = {path.name for path in plots.draw(plots.read(RESULTS), tmp_path)}
    assert drawn == {f"{name}-{theme}.svg" for name in asked for theme in ("light", "dark")}


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r'"([^"]+\.md)"', (ROOT / "zensical.toml").read_text()))
    assert {page.name for page in ROOT.glob("docs/*.md")} == listed - {"files/CONTRIBUTING.md"}
