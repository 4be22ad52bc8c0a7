"""Scripts of the fake Nuke as text: the part of the .nk format that the MatteBridge node needs.

A .nk is Tcl: one command per line, words bare, "quoted" or {braced}. Nodes take their inputs from a
stack and push themselves onto it; a group's contents follow it up to `end_group`; knobs that a user
made are declared by `addUserKnob {type name l label t tooltip ...}`.

    PYTHONPATH=tests python tests/fakes/nuke_script.py    # updates nuke/ToolSets/.../MatteBridge.nk
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from fakes.places import ROOT

if TYPE_CHECKING:
    from fakes.nuke_host import Knob, Node, NukeHost

NUKE_FOLDER = ROOT / "nuke"
TOOLSET = NUKE_FOLDER / "ToolSets" / "mattebridge" / "MatteBridge.nk"
# The numbers by which addUserKnob names the kinds of knobs.
NUMBERS = {
    "String_Knob": 1, "File_Knob": 2, "Int_Knob": 3, "Enumeration_Knob": 4, "Boolean_Knob": 6,
    "Double_Knob": 7, "Tab_Knob": 20, "PyScript_Knob": 22, "Text_Knob": 26,
    "Multiline_Eval_String_Knob": 43,
}  # fmt: skip
KINDS = {number: kind for kind, number in NUMBERS.items()}
# Their text stands in the declaration.
TEXT_INSIDE = ("PyScript_Knob", "Text_Knob")
ESCAPES = {"n": "\n", "t": "\t"}


# ------------------------------------------------------------------------------------------- saving


def save_script(host: NukeHost) -> str:
    """The whole script."""
    lines = ["#! /nonexistent/Nuke -nx", "version 15.1 v1", "Root {", " inputs 0"]
    lines += [
        f" {name} {_word(knob.value())}"
        for name, knob in host.root_node._knobs.items()
        if knob.value() != knob._default
    ]
    lines.append("}")
    _save_nodes(host.root_node, lines)
    return "\n".join(lines) + "\n"


def save_node(node: Node) -> str:
    """One node without what is connected to it, as a toolset holds it."""
    lines: list[str] = []
    _save_one(node, lines, 0)
    return "\n".join(lines) + "\n"


def _save_nodes(parent: Any, lines: list[str]) -> None:
    done: set[int] = set()

    def save(node: Node) -> None:
        if id(node) in done:
            return
        done.add(id(node))
        for source in node._inputs.values():
            save(source)
        count = max(node._inputs, default=-1) + 1
        for index in reversed(range(count)):
            source = node._inputs.get(index)
            lines.append(f"push {'0' if source is None else '$N' + source._name}")
        _save_one(node, lines, count)
        lines.append(f"set N{node._name} [stack 0]")

    for child in parent._children:
        save(child)


def _save_one(node: Node, lines: list[str], inputs: int) -> None:
    lines.append(f"{node._class} {{")
    lines.append(f" inputs {inputs}")
    lines.append(f" name {node._name}")
    lines.extend(_knob_lines(node))
    lines.append("}")
    if node._class == "Group":
        _save_nodes(node, lines)
        lines.append("end_group")


def _knob_lines(node: Node) -> Iterator[str]:
    for name, knob in node._knobs.items():
        if name in node._own:
            yield f" addUserKnob {{{_declaration(knob)}}}"
            if type(knob).__name__ not in TEXT_INSIDE and knob.value() != _empty(knob):
                yield f" {name} {_word(knob.value())}"
        elif knob.value() != knob._default:
            yield f" {name} {_word(knob.value())}"


def _empty(knob: Knob) -> Any:
    """What a knob of this kind holds when it has just been declared."""
    return knob.values()[0] if hasattr(knob, "values") else type(knob)(knob.name())._default


def _declaration(knob: Knob) -> str:
    kind = type(knob).__name__
    words = [str(NUMBERS[kind]), knob.name(), "l", _word(knob.label())]
    words += [] if knob.visible() else ["+INVISIBLE"]
    words += ["t", _word(knob.tooltip())] if knob.tooltip() else []
    if kind == "Enumeration_Knob":
        words += ["M", "{" + " ".join(_word(value) for value in knob.values()) + "}"]  # type: ignore[attr-defined]
    if kind in TEXT_INSIDE:
        words += ["T", _word(knob.value())]
    return " ".join(words)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return "{" + " ".join(map(str, value)) + "}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(r"[\w./:%+-]+", text):
        return text
    escaped = re.sub(r'([\\"\[\]{}$])', r"\\\1", text)
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


# ------------------------------------------------------------------------------------------ opening


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a piece of Tcl, each as its words; braced words as they stand."""
    at, words = 0, list[str]()
    while at < len(text):
        char = text[at]
        if char in "\n;":
            if words:
                yield words
            words, at = [], at + 1
        elif char.isspace():
            at += 1
        elif char == "#" and not words:
            at = (text + "\n").index("\n", at)
        else:
            word, at = _next_word(text, at)
            words.append(word)
    if words:
        yield words


def _next_word(text: str, at: int) -> tuple[str, int]:
    if text[at] == "{":
        return _braced(text, at)
    closing = '"' if text[at] == '"' else None
    at += closing is not None
    word = ""
    while at < len(text):
        char = text[at]
        if char == "\\":
            word += ESCAPES.get(text[at + 1], text[at + 1])
            at += 2
        elif char == closing:
            return word, at + 1
        elif closing is None and char.isspace():
            return word, at
        elif closing is None and char == "[":
            end = text.index("]", at) + 1
            word, at = word + text[at:end], end
        else:
            word, at = word + char, at + 1
    assert closing is None, f"a quote does not end: {word[:40]!r}"
    return word, at


def _braced(text: str, start: int) -> tuple[str, int]:
    depth, at = 0, start
    while True:
        char = text[at]
        at += 2 if char == "\\" else 1
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return text[start + 1 : at - 1], at


class _Reader:
    """Makes the nodes of a piece of script inside a group, with callbacks as they appear."""

    def __init__(self, host: NukeHost, parent: Any) -> None:
        self._host = host
        self._groups = [parent]
        self._stacks: list[list[Optional[Node]]] = [[]]
        self._variables: dict[str, Optional[Node]] = {}
        self.made: list[Node] = []

    def read(self, text: str) -> None:
        for words in commands(text):
            self._command(*words)

    def _command(self, name: str, *rest: str) -> None:
        stack = self._stacks[-1]
        if name == "push":
            known = self._variables
            stack.append(None if rest[0] == "0" else known[rest[0][1:]])
        elif name == "set":
            assert rest[1] == "[stack 0]"
            self._variables[rest[0]] = stack[-1]
        elif name == "end_group":
            self._groups.pop()
            self._stacks.pop()
        elif name == "Root":
            for knob, value in self._knobs(rest[0]):
                if knob != "inputs":
                    _set(self._host.root_node[knob], value)
        elif name != "version":
            self._node(name, rest[0])

    def _knobs(self, body: str) -> Iterator[tuple[str, str]]:
        for words in commands(body):
            yield words[0], words[1]

    def _node(self, node_class: str, body: str) -> None:
        from fakes.nuke_host import CLASSES, Group, Node

        if node_class not in CLASSES and node_class not in self._host.plugins:
            raise RuntimeError(f"{node_class}: Unknown command")
        kind = Group if node_class == "Group" else Node
        node = kind(self._host, node_class, self._groups[-1])
        self._groups[-1]._children.append(node)
        self.made.append(node)
        for name, value in self._knobs(body):
            if name == "inputs":
                for index in range(int(value)):
                    source = self._stacks[-1].pop()
                    if source is not None:
                        node._inputs[index] = source
            elif name == "name":
                node.setName(value)
            elif name == "addUserKnob":
                node.addKnob(_declared(value))
            else:
                _set(node[name], value)
        self._stacks[-1].append(node)
        self._host._call("OnCreate", node)
        if node_class == "Group":
            self._groups.append(node)
            self._stacks.append([])


def _declared(declaration: str) -> Knob:
    from fakes.nuke_host import KNOB_CLASSES, Enumeration_Knob

    (words,) = commands(declaration)
    kind, name, *more = words
    options: dict[str, str] = {}
    hidden = False
    while more:
        word = more.pop(0)
        if word.startswith("+"):
            hidden = hidden or word == "+INVISIBLE"
        else:
            options[word] = more.pop(0)
    assert set(options) <= set("ltMT"), options
    kind_name = KINDS[int(kind)]
    if kind_name == "Enumeration_Knob":
        knob: Knob = Enumeration_Knob(name, options["l"], next(commands(options["M"])))
    else:
        knob = KNOB_CLASSES[kind_name](name, options["l"])
    knob._tip, knob._visible = options.get("t", ""), not hidden
    if "T" in options:
        knob._value = options["T"]
    return knob


def _set(knob: Knob, text: str) -> None:
    """Without callbacks, as when a script is opened."""
    if isinstance(knob._default, bool):
        knob._value = text == "true"
    elif isinstance(knob._default, tuple):
        knob._value = tuple(int(part) for part in text.split())
    elif isinstance(knob._default, (int, float)):
        knob._value = type(knob._default)(text)
    else:
        knob._check(text)
        knob._value = text


def load_script(host: NukeHost, text: str) -> None:
    """Open a script in place of the one that is open."""
    host.new_script()
    _Reader(host, host.root_node).read(text)


def load_toolset(host: NukeHost, text: str) -> Optional[Node]:
    """Add nodes to what is open; the first of them."""
    reader = _Reader(host, host.context[-1])
    reader.read(text)
    return reader.made[0] if reader.made else None


# ------------------------------------------------------------------------------------------ toolset


def toolset_text() -> str:
    """Our node as `create` makes it, for those who take it out of a file."""
    from fakes.nuke_host import NukeHost

    host = NukeHost()
    with host.running(NUKE_FOLDER):
        import mattebridge_nuke

        node = mattebridge_nuke.create()
        node["node_uid"].setValue("")  # each gets one of its own
        return save_node(node)


if __name__ == "__main__":
    TOOLSET.parent.mkdir(parents=True, exist_ok=True)
    TOOLSET.write_text(toolset_text(), "utf-8")
