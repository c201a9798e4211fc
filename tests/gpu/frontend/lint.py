"""What the Metal Shading Language refuses and C++ would take, found in a preprocessed shader.

Sections are those of the specification of version 4 (June 2025), what it says of MSL 3.1.
`[observed]` marks what Apple's compiler was seen to refuse though the specification does not say
so, `[ours]` what only this project forbids.
"""

import re
from typing import NamedTuple

from tokens import closing, split, tokenize

SPACES = {"device", "constant", "thread", "threadgroup"}

WORDS = {
    **dict.fromkeys(["double", "wchar_t", "char16_t", "char32_t"], "is no type of MSL (2.1)"),
    **dict.fromkeys(["dynamic_cast", "typeid"], "no run-time type information (1.5.4)"),
    **dict.fromkeys(["new", "delete"], "no dynamic memory (1.5.4)"),
    **dict.fromkeys(["try", "throw", "catch"], "no exceptions (1.5.4)"),
    **dict.fromkeys(["register", "thread_local"], "no such storage class (1.5.4)"),
    "goto": "no goto (1.5.4)",
    "noexcept": "no noexcept (1.5.4)",
    "virtual": "no virtual functions (1.5.4)",
    "std": "no C++ standard library (1.5.4)",
    "main": "no function may be called main (1.5.4)",
    "union": "no unions [observed]",
    "asm": "no inline assembly [ours]",
    "__asm__": "no inline assembly [ours]",
    "__attribute__": "attributes are written [[...]] (5.2)",
}

# Attributes of chapter 5 that a compute kernel may carry, with the types that they may be put on.
POSITION = {name + n for name in ("ushort", "uint") for n in ("", "2", "3")}
INDEX = {"ushort", "uint"}
BUILT_IN = {
    "thread_position_in_grid": POSITION,
    "thread_position_in_threadgroup": POSITION,
    "threadgroup_position_in_grid": POSITION,
    "threadgroups_per_grid": POSITION,
    "threads_per_grid": POSITION,
    "threads_per_threadgroup": POSITION,
    "dispatch_threads_per_threadgroup": POSITION,
    "thread_index_in_threadgroup": INDEX,
    "thread_index_in_simdgroup": INDEX,
    "simdgroup_index_in_threadgroup": INDEX,
    "simdgroups_per_threadgroup": INDEX,
    "dispatch_simdgroups_per_threadgroup": INDEX,
    "threads_per_simdgroup": INDEX,
    "thread_execution_width": INDEX,
}
ATTRIBUTES = {
    "kernel",
    "host_name",
    "max_total_threads_per_threadgroup",
    "buffer",
    "threadgroup",
    *BUILT_IN,
}
BUFFERS = 31  # Metal feature set tables: buffer arguments of a compute function

LITERAL_SUFFIX = re.compile(
    r"(?:0[xX][\da-fA-F']+|0[bB][01']+|\d[\d']*)(?:[uU]?[lL]?|[lL]?[uU]?)"
    r"|(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|0[xX][\da-fA-F]*\.?[\da-fA-F]*[pP][+-]?\d+)"
    r"(?:[fF]|[hH]|bf|BF)?"
)


class Fault(NamedTuple):
    where: tuple
    reason: str


NAME = r"(?!(?:return|case|else|operator|using|typedef|sizeof|goto|delete|throw)\b)[A-Za-z_]\w*"
QUALIFIER = rf"(?:const|volatile|{'|'.join(SPACES)})"
DECLARATOR = re.compile(
    rf"(?:(?:typename|static|inline|constexpr|kernel|struct|auto|{QUALIFIER}) )*"
    rf"(?::: )?{NAME}(?: <>)?(?: :: {NAME}(?: <>)?)* "
    rf"(?:(?:unsigned|char|short|int|long|{QUALIFIER}) )*"
    rf"(?:(?P<what>[*&]) |\( (?P<array>[*&]) (?:const )?(?:{NAME} )?\) \[ )"
)

FIRST_VARIABLE = re.compile(rf"(?:(?:const|constexpr|unsigned) )*{NAME} {NAME} ")


def pointer_without_space(tokens):
    """'pointer' or 'reference' if the tokens begin the declaration of one with no address space."""
    words, i = [], 0
    while i < min(len(tokens), 60):
        if tokens[i].text == "<" and i and tokens[i - 1].kind == "name":
            words.append("<>")
            i = closing(tokens, i) + 1
        else:
            words.append(tokens[i].text)
            i += 1
    text = " ".join(words) + " "
    match = DECLARATOR.match(text)
    if not match:
        return None
    # Of a pointer to a pointer each has its own.
    if SPACES & set(match[0].split()) and text[match.end() :][:2] not in ("* ", "& "):
        return None
    return "pointer" if (match["what"] or match["array"]) == "*" else "reference"


class Linter:
    """Finds the faults, and the edits that make clang understand what only Metal's does."""

    def __init__(self, text):
        self.tokens = tokenize(text)
        self.faults = []
        self.edits = []  # begin, end, replacement
        self.type_names = {"vec"} | {
            self.tokens[i + 1].text
            for i in range(len(self.tokens) - 2)
            if self.text(i) in ("typename", "using") and self.text(i + 2) in (",", ">", "=")
        }
        self.enumerators = self.plain_enumerators()
        self.every_token()
        self.scope(0, len(self.tokens), "namespace")

    def fault(self, token, reason):
        self.faults.append(Fault(token.where, reason))

    def text(self, i):
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def plain_enumerators(self):
        """The values of those that are counted from 0 on, which may be buffer indices."""
        values = {}
        for i, token in enumerate(self.tokens):
            if token.text == "enum" and self.text(i + 1) == "{":
                for value, words in enumerate(
                    split(self.tokens[i + 2 : closing(self.tokens, i + 1)])
                ):
                    if len(words) != 1:
                        break
                    values[words[0].text] = str(value)
        return values

    # What is wrong wherever it stands.

    def every_token(self):
        tokens = self.tokens
        for i, token in enumerate(tokens):
            text, before, after = token.text, self.text(i - 1), self.text(i + 1)
            if text in WORDS and not (text == "delete" and before == "="):
                self.fault(token, f"'{text}': {WORDS[text]}")
            elif text == "long" and after == "long":
                self.fault(token, "'long long': is no type of MSL (2.1)")
            elif token.kind == "number" and not LITERAL_SUFFIX.fullmatch(text):
                self.fault(token, f"'{text}': MSL has no such literal (2.1)")
            elif token.kind == "number" and text[-2:] in ("bf", "BF") and text[1] not in "xX":
                self.edits.append((token.begin, token.end, f"bfloat({text[:-2]}f)"))
            elif text in self.type_names and after in ("<", "("):
                self.vector_constructor(i)
            elif text == "[" and after == "[" and tokens[i + 1].begin == token.end:
                self.attributes(i)
            elif text == "[" and before != "[" and self.begins_lambda(i):
                self.fault(token, "no lambda expressions (1.5.4)")
            elif text in "*&" and after in (")", ">") and before != "operator":
                self.abstract_pointer(i)
            elif text == "(" and after in ("*", "&") and self.text(i + 3) == ")":
                if self.text(i + 4) == "(" and tokens[i - 1].kind == "name" and before not in (
                    "return", "if", "while", "switch"
                ):  # fmt: skip
                    self.fault(token, f"no function pointers: '{self.text(i + 2)}' [ours, 1.5.4]")

    def begins_lambda(self, i):
        before = self.tokens[i - 1] if i else None
        if before and (before.kind in ("name", "text") and before.text != "return"):
            return False
        end = closing(self.tokens, i)
        return (not before or before.text not in ")]>") and self.text(end + 1) in ("(", "{")

    def attributes(self, i):
        end = closing(self.tokens, i)
        for part in split(self.tokens[i + 2 : end - 1]):
            name = part[0].text
            if len(part) > 1 and part[1].text == "::":
                name = "".join(token.text for token in part[:3])
            if name not in ATTRIBUTES:
                self.fault(part[0], f"unknown attribute '{name}' (5.2)")
        self.edits.append((self.tokens[i].begin, self.tokens[end].end, ""))

    def vector_constructor(self, i):
        """`vec<T, n>(...)`, and `T(a, b)` where T may be a vector."""
        named = self.text(i + 1) == "("
        end = i if named else closing(self.tokens, i + 1)
        if self.text(end + 1) != "(" or self.text(end + 2) in "*&":
            return
        several = len(split(self.tokens[end + 2 : closing(self.tokens, end + 1)])) > 1
        if self.text(i) == "vec" or several:
            qualified = self.text(i - 1) == "::" and self.text(i - 2) == "metal"
            begin = self.tokens[i - 2 if qualified else i].begin
            self.edits.append((begin, begin, "::frontend::construct<"))
            self.edits.append((self.tokens[end].end,) * 2 + (">",))

    def abstract_pointer(self, i):
        """`*` or `&` before `)` or `>`: in a cast, a template's argument, an unnamed parameter."""
        depth, j = 0, i - 1
        while j >= 0 and not (depth == 0 and self.text(j) in ("(", "<", ",", ";", "{", "}")):
            depth += (self.text(j) in (")", ">")) - (self.text(j) in ("(", "<"))
            j -= 1
        if SPACES & {token.text for token in self.tokens[j + 1 : i]}:
            return
        kind = "pointer" if self.text(i) == "*" else "reference"
        self.fault(self.tokens[i], f"{kind} type must have explicit address space qualifier (4)")

    # What depends on the place: namespaces and classes, functions, kernels.

    def scope(self, begin, end, kind):
        """Declarations of a namespace or class, one by one."""
        i = begin
        while i < end:
            head, i = self.head(i, end)
            if i >= end or self.text(i) == ";":
                self.declaration(head, None, kind)
                i += 1
                continue
            body_end = closing(self.tokens, i)
            self.declaration(head, (i + 1, body_end), kind)
            i = body_end + 1

    def head(self, i, end):
        """The tokens of a declaration up to its `;` or body, without templates and attributes."""
        head = []
        while i < end:
            text = self.text(i)
            if text == "template" and self.text(i + 1) == "<":
                i = closing(self.tokens, i + 1) + 1
            elif text == "[" and self.text(i + 1) == "[":
                if "kernel" in {token.text for token in self.tokens[i : closing(self.tokens, i)]}:
                    head.append(self.tokens[i]._replace(kind="name", text="kernel"))
                i = closing(self.tokens, i) + 1
            elif text in (";", "}"):
                return head, i
            elif text == "{":
                words = {token.text for token in head}
                if "=" in words and "operator" not in words and self.function(head) is None:
                    stop = closing(self.tokens, i)
                    head += self.tokens[i : stop + 1]
                    i = stop + 1
                else:
                    return head, i
            elif text in "([":
                stop = closing(self.tokens, i)
                head += self.tokens[i : stop + 1]
                i = stop + 1
            else:
                head.append(self.tokens[i])
                i += 1
        return head, i

    @staticmethod
    def function(head):
        """The indices of a function's name and its parameters' brackets, None if it is none."""
        i = 0
        while i < len(head):
            text = head[i].text
            if text == "=" and (not i or head[i - 1].text != "operator"):
                return None
            if text == "<" and i and head[i - 1].kind == "name" and head[i - 1].text != "operator":
                i = closing(head, i)
            elif text == "(" and i and (head[i - 1].kind == "name" or "operator" in head[i - 2].text
                                        or head[i - 1].text == ">"):  # fmt: skip
                if head[i - 1].text in ("decltype", "static_assert", "alignas"):
                    return None
                return i - 1, i, closing(head, i)
            i += 1
        return None

    def declaration(self, head, body, scope):
        if not head:
            return
        words = [token.text for token in head]
        first = words[0]
        while first in ("public", "private", "protected") and len(words) > 2:
            head, words = head[2:], words[2:]
            first = words[0]
        if "namespace" in words[:2] and body:
            self.scope(*body, "namespace")
        elif first == "enum" or first in ("friend", "static_assert", "template"):
            return
        elif first in ("struct", "class", "union") and body:
            if ":" in words:
                self.fault(head[0], "no derived classes (1.5.4)")
            self.scope(*body, "class")
        elif first in ("using", "typedef"):
            if first == "using" and "=" not in words:
                return
            target = head[words.index("=") + 1 :] if first == "using" else head[1:]
            self.must_have_space(target)
        elif first not in ("struct", "class"):
            found = self.function(head)
            if found:
                self.a_function(head, found, body, scope)
            else:
                self.a_variable(head, scope)

    def must_have_space(self, tokens):
        kind = pointer_without_space(tokens)
        if kind:
            self.fault(tokens[0], f"{kind} type must have explicit address space qualifier (4)")

    def a_variable(self, head, scope):
        words = [token.text for token in head]
        self.must_have_space(head)
        if scope == "namespace" or "static" in words:
            if "constant" not in words:
                self.fault(
                    head[0], "program scope variable must reside in constant address space (4)"
                )
            elif "=" not in words and scope == "namespace":
                self.fault(head[0], "variable in constant address space must be initialized (4.2)")

    def a_function(self, head, found, body, scope):
        name, opening, end = found
        returned, parameters = head[:name], split(head[opening + 1 : end])
        self.must_have_space(head[:opening])
        for parameter in parameters:
            self.must_have_space(parameter)
        is_kernel = any(token.text == "kernel" for token in returned)
        if is_kernel:
            self.kernel(head[name], returned, scope)
        if is_kernel and body:
            # Attributes were taken out of the head: the parameters are read again.
            begin, used = self.tokens.index(head[opening]), {}
            for parameter in split(self.tokens[begin + 1 : closing(self.tokens, begin)]):
                self.parameter(parameter, used)
        if body:
            self.body(*body, is_kernel)

    def kernel(self, name, returned, scope):
        if scope != "namespace":
            self.fault(name, "a kernel cannot be a member function (5.1)")
        kind = [t.text for t in returned if t.text not in ("kernel", "static", "inline")]
        kind = kind[: kind.index("::")] if "::" in kind and kind[0] == "void" else kind
        if kind[:1] != ["void"] or (len(kind) > 1 and kind[1] in "*&"):
            self.fault(name, f"invalid return type '{' '.join(kind)}' for kernel function (5.1.3)")

    def parameter(self, parameter, used):
        words = [token.text for token in parameter]
        cut = next(
            (i for i, w in enumerate(words) if w == "[" and words[i + 1 : i + 2] == ["["]), None
        )
        if cut is None:
            by_address = {"*", "&"} & set(words)
            reason = "buffer without index [ours, 5.2.1]" if by_address else "no attribute (5.2)"
            self.fault(parameter[0], f"kernel argument '{words[-1]}': {reason}")
            return
        declared, attribute = words[:cut], words[cut + 2]
        passed_by_address = "*" in declared or "&" in declared
        if attribute == "buffer":
            index = "".join(words[cut + 4 : words.index(")", cut)])
            index = self.enumerators.get(index, index)
            if not passed_by_address or not {"device", "constant"} & set(declared):
                self.fault(
                    parameter[0], "a buffer is a pointer or reference to device or constant (5.2)"
                )
            if not index.isdigit():
                self.fault(parameter[0], f"buffer index '{index}' is no number (5.2.1)")
            elif int(index) >= BUFFERS:
                self.fault(parameter[0], f"buffer index {index}: there are {BUFFERS} (5.2.1)")
            elif used.setdefault(int(index), declared[-1]) != declared[-1]:
                self.fault(parameter[0], f"cannot reserve 'buffer' at index {index}: taken (5.2.1)")
        elif attribute == "threadgroup":
            if not passed_by_address or "threadgroup" not in declared:
                self.fault(parameter[0], "[[threadgroup(n)]] is for a threadgroup pointer (5.2.1)")
        elif attribute in BUILT_IN:
            kind = [w for w in declared[:-1] if w not in ("const", "metal", "::")]
            if len(kind) != 1 or kind[0] not in BUILT_IN[attribute]:
                reason = (
                    f"type '{' '.join(kind)}' is not valid for attribute '{attribute}' (5.2.3.6)"
                )
                self.fault(parameter[0], reason)
            if used.setdefault(attribute, declared[-1]) != declared[-1]:
                self.fault(parameter[0], f"attribute '{attribute}' given twice (5.2.3.6)")

    def body(self, begin, end, is_kernel):
        """Statements of a function: those that declare something."""
        depth = 0
        for i in range(begin, end):
            depth += (self.text(i) == "(") - (self.text(i) == ")")
            before = self.text(i - 1)
            starts = (before in (";", "}") and not depth) or i == begin
            starts |= before == "{" and self.text(i - 2) in (")", "else", "do", ";", "{", "}")
            starts |= before == "(" and self.text(i - 2) == "for"
            if not starts:
                continue
            stop = next(j for j in range(i, end + 1) if self.text(j) in (";", "{", "}") or j == end)
            statement = self.tokens[i:stop]
            if not statement:
                continue
            words = [token.text for token in statement]
            self.must_have_space(statement[1:] if words[0] == "typedef" else statement)
            declared = split(statement)
            if (
                len(declared) > 1
                and FIRST_VARIABLE.match(" ".join(words) + " ")
                and not SPACES & set(words)
                and any(part[0].text in "*&" for part in declared[1:])
            ):
                self.fault(statement[0], "pointer type must have explicit address space (4)")
            if "=" in words and words[0] == "using":
                self.must_have_space(statement[words.index("=") + 1 :])
            if words[0] == "static" or words[:2] == ["constexpr", "static"]:
                self.fault(statement[0], "variables in function scope cannot be static [observed]")
            if words[0] == "threadgroup" and not {"*", "&"} & set(words[1 : self.declared(words)]):
                if not is_kernel:
                    self.fault(statement[0], "threadgroup variable outside of a kernel (4.4)")
                if "=" in words or self.text(stop) == "{":
                    self.fault(statement[0], "threadgroup variable with an initializer (4.4)")
                # clang knows no automatic variables in an address space.
                self.edits.append((statement[0].begin,) * 2 + ("static ",))

    @staticmethod
    def declared(words):
        """Where a declaration's initializer or array bounds begin."""
        return next((i for i, word in enumerate(words) if word in ("=", "[")), len(words))
