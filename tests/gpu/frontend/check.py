"""Checks a Metal shader without Apple's compiler: `check.py FILE [-D NAME=VALUE] [-I DIR]`.

clang (of PyPI `ziglang`) compiles the file against a standard library that declares what the Metal
specification has and nothing more (msl/), address spaces being real. lint.py and `inspect_tree`
find what MSL refuses and C++ takes. Exit status 1 and `file:line: reason` if anything is wrong.

Refused, though it is good MSL: structs copied from or to device memory, member functions with an
address space, comparisons of vectors as bool vectors, and, by a name of the file's own for a vector
type, conversions from another vector type.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import ziglang

sys.path.insert(0, str(Path(__file__).parent))
from lint import Fault, Linter

LIBRARY = Path(__file__).parent / "msl"
LANGUAGE = [
    "-triple", "arm64-apple-macosx14.0", "-x", "c++", "-std=c++14", "-fno-rtti", "-fno-builtin",
    "-nostdsysteminc", "-nobuiltininc", "-nostdinc++", "-cl-single-precision-constant",
    "-D__METAL__", "-D__METAL_VERSION__=310", "-D__METAL_MACOS__", "-D__HAVE_BFLOAT__",
]  # fmt: skip
WARNINGS = [
    "-Wall", "-Wextra", "-Werror", "-Wvla", "-Wglobal-constructors", "-Wdeprecated",
    # A variant of the shader leaves arguments, functions and constants unused.
    "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-const-variable",
    "-Wno-unused-local-typedef", "-Wno-unused-but-set-parameter", "-Wno-undefined-inline",
    "-Wno-sign-compare", "-Wno-pass-failed", "-Wno-duplicate-decl-specifier",
    "-flax-vector-conversions=none", "-ferror-limit", "20", "-fno-caret-diagnostics",
]  # fmt: skip
SPACES = {
    "device": "__attribute__((address_space(1)))",
    "constant": "__attribute__((address_space(2))) const",
    "threadgroup": "__attribute__((address_space(3)))",
    "thread": "",
    "kernel": "",
}
ELEMENTS = "bool char uchar short ushort int uint long ulong half bfloat float".split()
CONSTRUCTORS = {
    f"{element}{n}(...)": f"::frontend::construct<{element}{n}>(__VA_ARGS__)"
    for element in ELEMENTS
    for n in (2, 3, 4)
}
DIAGNOSTIC = re.compile(r"^(.+?):(\d+):\d+: (?:fatal )?(error|note): (.*)$", re.MULTILINE)
# Clang has no explicit conversion between these two, MSL has.
TYPE = r"'.*(?:_Float16|__bf16)'\)?"
HALF_TO_BFLOAT = re.compile(f"cast from {TYPE} to {TYPE} is not allowed")


def clang(*arguments, text=None):
    command = [Path(ziglang.__file__).parent / "zig", "clang", "-cc1", *LANGUAGE, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True)


def diagnostics(result):
    """clang's errors; one inside of the library is that of the line that asked for it."""
    faults, pending = [], None
    for file, line, kind, reason in DIAGNOSTIC.findall(result.stderr):
        inside = file.startswith(str(LIBRARY))
        if HALF_TO_BFLOAT.search(reason):
            continue
        if kind == "note":
            if pending and not inside:
                faults.append(Fault((file, int(line)), pending))
                pending = None
            continue
        pending = reason if inside else None
        if not inside:
            faults.append(Fault((file, int(line)), reason))
    if result.returncode and not DIAGNOSTIC.search(result.stderr):
        faults.append(Fault(("clang", 0), result.stderr.strip() or f"exit {result.returncode}"))
    return faults


NODE = re.compile(r"^([| `-]*)(\w+) (0x[0-9a-f]+) (?:(?:parent|prev) 0x[0-9a-f]+ )*(.*)$")
PREVIOUS = re.compile(r"prev (0x[0-9a-f]+)")
PLACE = re.compile(r"(?:<|, |> )(?:(line|col)|([^<>,\s]+?)):(\d+)(?=:\d|[,> ]|$)")
FUNCTION = re.compile(r"(?:Function|CXXMethod) (0x[0-9a-f]+) '([^']+)'")
TO_BFLOAT = re.compile(r"'(?:bfloat|[^']*':'__bf16|__bf16)' <FloatingCast>$")


def inspect_tree(tree):
    """Recursion, functions as values, implicit conversions to bfloat, in clang's syntax tree."""
    faults, calls, names, canonical = [], {}, {}, {}
    file, line, path = "", 0, []  # path: kind, address, which child, of the node and those above
    for match in filter(None, map(NODE.match, tree.splitlines())):
        depth, kind, address, rest = len(match[1]) // 2, match[2], match[3], match[4]
        begin = None
        for relative, absolute, number in PLACE.findall("<" + rest.partition("<")[2][:300]):
            if relative != "col":
                file, line = absolute or file, int(number)
            begin = begin or (file, line)
        begin = begin or (file, line)
        child = path[depth][2] + 1 if len(path) > depth else 0
        del path[depth:]
        path += [("", "", 0)] * (depth - len(path)) + [(kind, address, child)]
        if kind in DEFINITIONS:
            previous = PREVIOUS.search(match[0])
            canonical[address] = canonical.get(previous[1], previous[1]) if previous else address
        elif kind in ("DeclRefExpr", "MemberExpr") and (named := FUNCTION.search(rest)):
            caller = next((a for k, a, _ in reversed(path) if k in DEFINITIONS), None)
            callee = canonical.get(named[1], named[1])
            calls.setdefault(canonical.get(caller, caller), {})[callee] = begin
            names[callee] = named[2]
            if kind == "DeclRefExpr" and not is_called(path):
                reason = f"no function pointers: '{named[2]}' is a value [ours, 1.5.4]"
                faults.append(Fault(begin, reason))
        elif kind == "ImplicitCastExpr" and TO_BFLOAT.search(rest):
            reason = "no implicit conversion of float or half to bfloat (2.22)"
            faults.append(Fault(begin, reason))
    return faults + recursions(calls, names)


DEFINITIONS = {"FunctionDecl", "CXXMethodDecl"}
CALLS = {"CallExpr", "CXXOperatorCallExpr", "UserDefinedLiteral"}


def is_called(path):
    """Whether the last node of the path, a function, is what the call above it calls."""
    i = len(path) - 1
    while path[i - 1][0] in ("ImplicitCastExpr", "ParenExpr"):
        i -= 1
    return path[i - 1][0] in CALLS and path[i][2] == 0


def recursions(calls, names):
    """One fault for every cycle of functions that call each other."""
    faults, known = [], set()
    for function in calls:
        seen, front = set(), dict(calls[function])
        while front and function not in known:
            callee, where = front.popitem()
            if callee == function:
                faults.append(Fault(where, f"no recursion: '{names[callee]}' [ours, 1.5.4]"))
                known |= seen
                break
            if callee not in seen:
                seen.add(callee)
                front.update(dict.fromkeys(calls.get(callee, {}), where))
    return faults


MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
STANDARD = "#include <metal_stdlib>"


def early_macros(path, text):
    """Macros that Apple's headers would see."""
    before = text[: text.find(STANDARD)] if STANDARD in text else ""
    return [
        Fault((str(path), before.count("\n", 0, match.start(1)) + 1),
              f"macro '{match[1]}' before <metal_stdlib> [ours]")
        for match in MACRO.finditer(before)
    ]  # fmt: skip


def preprocessed(shader, name, definitions=(), include=()):
    """clang's run that expands a text of that name.  Definitions stand as in a variant's preamble,
    behind Apple's headers."""
    lines = [STANDARD] * bool(definitions)
    lines += [f"#define {definition.replace('=', ' ', 1)}" for definition in definitions]
    text = "\n".join([*lines, f'#line 1 "{name}"', shader])
    where = [f"-I{directory}" for directory in include]
    types = str(LIBRARY / "metal_types")
    return clang(
        "-E", "-include", types, "-internal-isystem", str(LIBRARY), *where, "-o", "-", "-",
        text=text,
    )  # fmt: skip


def compiled(text, linter, *options):
    """clang's run over an expanded text, whose Metal it is told as C++."""
    for begin, end, replacement in sorted(linter.edits, reverse=True):
        text = text[:begin] + replacement + text[end:]
    macros = [f"-D{name}={value}" for name, value in {**SPACES, **CONSTRUCTORS}.items()]
    return clang(*options, *macros, "-", text=text)


def check(path, definitions=(), include=()):
    """The faults of a shader, none if it is good."""
    shader = Path(path).read_text()
    faults = early_macros(path, shader)
    expanded = preprocessed(shader, path, definitions, (Path(path).parent, *include))
    if expanded.returncode:
        return diagnostics(expanded)
    linter = Linter(expanded.stdout)
    tree = compiled(expanded.stdout, linter, "-fsyntax-only", "-ast-dump", *WARNINGS)
    faults += linter.faults + diagnostics(tree)
    if not faults:
        faults = inspect_tree(tree.stdout)
    return sorted(set(faults))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("-D", action="append", default=[], metavar="NAME=VALUE", dest="define")
    parser.add_argument("-I", action="append", default=[], metavar="DIR", dest="include")
    options = parser.parse_args()
    faults = check(options.file, options.define, options.include)
    for fault in faults:
        print(f"{fault.where[0]}:{fault.where[1]}: {fault.reason}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
