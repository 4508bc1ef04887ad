"""Fail when code outgrows the limits that keep it readable. Usage: check_shape.py [FOLDER]

A function: 60 lines without its docstring, 3 positional parameters. A file: 600 lines, and a name
that says what is in it. Names: none that say only where a value came from. Docstrings: a subject or
a verb first, no question word.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

FUNCTION_LINES = 60
FILE_LINES = 600
POSITIONAL = 3
# Signatures that are torch's or Python's own (a hook, an override), and so not ours to shorten.
GIVEN_SIGNATURES = {"forward", "_after_forward", "__exit__", "__torch_dispatch__"}
NAMES_THAT_SAY_NOTHING = {"utils", "common", "helpers", "base", "manager", "misc"}
# Participles that hide what a variable holds or a function does; docs/contributing/style.md.
VAGUE_NAMES = {
    "asked",
    "begun",
    "found",
    "given",
    "judged",
    "kept",
    "known",
    "made",
    "said",
    "told",
    "wanted",
}
VAGUE_OPENING = re.compile(r"(What|How|Whether|Why|Where|Which|Of|By) ")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main(folder: Path) -> int:
    files = sorted(folder.rglob("*.py"))
    complaints = [complaint for path in files for complaint in check_file(path)]
    lengths = [length(node) for path in files for node in functions(path)]
    tenth = quantiles(lengths, n=10)[-1] if len(lengths) > 1 else max(lengths, default=0)
    print(
        f"{len(files)} files, {len(lengths)} functions: "
        f"median {median(lengths or [0]):.0f} lines, nine in ten at most {tenth:.0f}"
    )
    print(*complaints, sep="\n", end="\n" if complaints else "")
    return 1 if complaints else 0


def check_file(path: Path) -> Iterator[str]:
    lines = path.read_text(encoding="utf-8").count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines; at most {FILE_LINES}"
    if path.stem in NAMES_THAT_SAY_NOTHING:
        yield f"{path}: the name does not say what is in it"
    yield from check_language(path)
    for node in functions(path):
        place = f"{path}:{node.lineno}: {node.name}"
        if length(node) > FUNCTION_LINES:
            yield f"{place}: {length(node)} lines; at most {FUNCTION_LINES}"
        if len(positional(node)) > POSITIONAL and node.name not in GIVEN_SIGNATURES:
            yield f"{place}({', '.join(positional(node))}): at most {POSITIONAL} by position"


def check_language(path: Path) -> Iterator[str]:
    source = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string in VAGUE_NAMES:
            yield f"{path}:{token.start[0]}: the name {token.string!r} does not say what it holds"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            opening = VAGUE_OPENING.match(ast.get_docstring(node) or "")
            if opening:
                line = getattr(node, "lineno", 1)
                yield f"{path}:{line}: a docstring opens with {opening[1]!r}: begin with a verb"


def functions(path: Path) -> list[Function]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def length(node: Function) -> int:
    """Lines from the first statement to the last, the docstring left out."""
    body = node.body[1:] if ast.get_docstring(node) is not None and node.body[1:] else node.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def positional(node: Function) -> list[str]:
    names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
    return [name for name in names if name not in ("self", "cls")]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else "src/thalweg")))
