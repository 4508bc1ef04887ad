"""Programs that nobody tuned on: what the diagnosis says when it sees them for the first time.

Each round is a module of `rounds/`: training programs written without knowledge of the rules.
The faulty ones also have a repaired form; the sound ones are loops in which nothing is wrong. A
round is scored before anything is mended, and that score is kept beside the one after mending.
`accepted.json` lists, program by program, the rules that count as its cause, written down before
the first run; a cause for which there was no rule counts as missed.

A program is watched in three ways: "loaders", where `watch` is passed all that the program has;
"two lines", the model and the optimizer alone; and "run", as `thalweg run` does it, without a call
in the program.

Environment: FIRST_SIGHT_ROUNDS=1,2 (all), FIRST_SIGHT_WAYS=loaders,two lines,run (all),
FIRST_SIGHT_FORMS=faulty,fixed,sound (all), FIRST_SIGHT_PROGRAMS=name,name (all),
FIRST_SIGHT_SEED (0), FIRST_SIGHT_PROCESSES (2).
"""

from benchmarks.first_sight.score import main

__all__ = ["main"]
