"""`thalweg generate RUN`: write text with a trained language model, as it comes."""

import sys
from pathlib import Path

from thalweg.cli.output import print_json
from thalweg.errors import printable


def generate(
    run: Path,
    /,
    *,
    prompt: str = "",
    length: int = 500,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    greedy: bool = False,
    beams: int = 1,
    seed: int = 0,
    json: bool = False,
    device: str = "cpu",
) -> None:
    """Write text with a run that was trained on a .txt file.

    Parameters
    ----------
    run: Path
        The folder of a finished run.
    prompt: str
        The text to go on with; without it, the beginning of a line.
    length: int
        Tokens to write: characters, or pieces of words.
    temperature: float
        Below 1 likely tokens become likelier, above 1 less so; 0 takes the likeliest.
    top_k: int
        Choose among this many of the likeliest tokens; 0: among all.
    top_p: float
        Choose among the likeliest tokens that together have this probability.
    greedy: bool
        Take the likeliest token at each place.
    beams: int
        Search for a likely text, with so many candidates at each place.
    seed: int
        Another seed writes another text.
    json: bool
        Print JSON.
    device: str
        Such as cpu or cuda.
    """
    from thalweg import api
    from thalweg.inference.write_text import Writing, write_text

    writing = Writing(
        length=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        greedy=greedy,
        beams=beams,
    )
    writing.check()  # before the model is read
    pieces = write_text(api.load(run, device=device), prompt, writing)  # refuses at once
    if json:
        print_json(prompt=prompt, text="".join(pieces))
        return
    print(_shown(prompt), end="")
    for piece in pieces:
        print(_shown(piece), end="")
        sys.stdout.flush()
    print()


def _shown(text: str) -> str:
    """The text with its line breaks; characters that move the cursor are escaped."""
    return printable(text, keep="\n\t")
