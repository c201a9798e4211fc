"""No circles among the files of src/, whose floors use what lies below them, and none among the
modules of the package."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
pytestmark = pytest.mark.cpu_only

# What a folder of src/ may use beside itself; "" are the files of src/ itself.
MAY_USE = {
    "torch": {"", "check", "core", "cpu"},
    "": {"check", "core", "cpu", "gpu"},
    "check": {"core"},
    "cpu": {"core"},
    "gpu": {"core"},
    "core": set(),
}
FUNCTION = re.compile(
    r"^(?!static|typedef)[a-zA-Z][^;{}#]*?\b(cc1d_\w+|causal_conv1d_\w+)\([^;{}]*\)\s*{", re.M
)
DATA = re.compile(
    r"^(?!static|extern|typedef)[a-zA-Z][^;{}()#]*?\b(cc1d_\w+)(?:\[\w*\])?(?: = |;)", re.M
)


def sources():
    """The written files, with their texts."""
    files = (p for p in SRC.rglob("*") if p.suffix in (".c", ".h") and p.name != "source.c")
    return {path.relative_to(SRC): path.read_text() for path in sorted(files)}


def unit(path):
    """A .c file and the header of its name are one."""
    return str(path.with_suffix(""))


def c_graph(texts):
    """Who uses whom: by an #include, or by a name that a .c file defines."""
    graph = {unit(path): set() for path in texts}
    defined = {}
    for path, text in texts.items():
        if path.suffix == ".c":
            for name in (*FUNCTION.findall(text), *DATA.findall(text)):
                defined[name] = unit(path)
    for path, text in texts.items():
        for included in re.findall(r'^#include "(.*)"', text, re.M):
            used = (SRC / path.parent / included).resolve()
            if used.is_relative_to(SRC):
                graph[unit(path)].add(unit(used.relative_to(SRC)))
        if path.suffix == ".c":
            graph[unit(path)] |= {defined[n] for n in re.findall(r"\w+", text) if n in defined}
    for name, used in graph.items():
        used.discard(name)
    return graph


def assert_no_circle(graph):
    """graphlib names the files of a circle."""
    graphlib.TopologicalSorter(graph).prepare()


def test_no_circle_in_src():
    graph = c_graph(sources())
    assert len(graph) > 20
    assert_no_circle(graph)


def test_a_circle_in_src_is_found():
    texts = sources()
    path = Path("core/error.c")
    texts[path] += "\nint x = cc1d_torch_open(0);\n"
    with pytest.raises(graphlib.CycleError):
        assert_no_circle(c_graph(texts))


def test_folders_of_src_use_what_lies_below():
    for name, used in c_graph(sources()).items():
        folder = str(Path(name).parent).replace(".", "")
        for other in used:
            below = str(Path(other).parent).replace(".", "")
            assert below == folder or below in MAY_USE[folder], f"{name} uses {other}"


PACKAGE = ROOT / "causal_conv1d_mps"


def package_graph(texts):
    """Which module imports which, in functions too.  That importing a part also runs the package's
    __init__ is not counted: every module would be in a circle then."""
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in texts}
    graph = {name: set() for name in names}
    for path, text in texts.items():
        module = ".".join(path.with_suffix("").parts)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = module.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *filter(None, [node.module])])
                names_from = [f"{base}.{alias.name}" for alias in node.names]
                found = [name if name in names else base for name in names_from]
            else:
                continue
            graph[module.removesuffix(".__init__")] |= {name for name in found if name in names}
    return graph


def package_texts():
    """The modules of the package, with their texts."""
    paths = PACKAGE.rglob("*.py")
    return {path.relative_to(ROOT): path.read_text() for path in sorted(paths)}


def test_no_circle_in_the_package():
    graph = package_graph(package_texts())
    assert len(graph) > 25 and graph["causal_conv1d_mps.module"]
    assert_no_circle(graph)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("reference.py", "from . import functional"),
        ("_check.py", "def f():\n    import causal_conv1d_mps.module"),
        ("compat/serving.py", "from .. import causal_conv1d\nfrom ..serving import x"),
    ],
)
def test_a_circle_in_the_package_is_found(module, line):
    texts = package_texts()
    texts[Path("causal_conv1d_mps") / module] += f"\n{line}\n"
    with pytest.raises(graphlib.CycleError):
        assert_no_circle(package_graph(texts))
