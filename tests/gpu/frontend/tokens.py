"""The tokens of a preprocessed shader, and the brackets and commas among them."""

import re
from typing import NamedTuple

TOKEN = re.compile(
    r'(?P<marker>^\# \d+ ".*$)|(?P<pragma>^[ \t]*\#.*$)|(?P<line>\n)|(?P<space>[ \t]+)'
    r'|(?P<text>"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
    r"|(?P<number>\.?\d(?:[eEpP][+-]|[\w.'])*)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark>::|->|\+\+|--|&&|\|\||[-+*/%&|^=!<>]=|<<=|<<|.)",
    re.MULTILINE,
)


class Token(NamedTuple):
    kind: str
    text: str
    where: tuple  # file and line
    begin: int
    end: int


def tokenize(text):
    """The tokens of the user's files; the library's (system headers) are skipped."""
    tokens, file, line, system = [], "", 0, False
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "marker":
            _, number, rest = match[0].split(" ", 2)
            file, flags = rest.rsplit('"', 1)
            file, line, system = file[1:], int(number) - 1, "3" in flags.split()
        elif kind == "line":
            line += 1
        elif kind in ("text", "number", "name", "mark") and not system:
            tokens.append(Token(kind, match[0], (file, line), match.start(), match.end()))
    return tokens


def closing(tokens, i):
    """The index of the token that closes the bracket at i."""
    opener = tokens[i].text
    closer = {"(": ")", "[": "]", "{": "}", "<": ">"}[opener]
    depth = 0
    while i < len(tokens):
        text = tokens[i].text
        if opener == "<" and text in "([{":
            i = closing(tokens, i)
        elif text == opener:
            depth += 1
        elif text == closer:
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return len(tokens) - 1


def split(tokens):
    """The parts between the commas that stand in no bracket."""
    parts, part, i = [], [], 0
    while i < len(tokens):
        if tokens[i].text == ",":
            parts.append(part)
            part, i = [], i + 1
            continue
        is_template = tokens[i].text == "<" and i and tokens[i - 1].kind == "name"
        end = closing(tokens, i) if tokens[i].text in "([{" or is_template else i
        part += tokens[i : end + 1]
        i = end + 1
    return [*parts, part] if part else parts
