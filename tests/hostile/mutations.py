"""Damage a run folder in one place, as a bad disk, an edit or an attacker would."""

import json
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from hashlib import sha256

DEEP = "[" * 100_000 + "]" * 100_000
ODD_JSON = [
    DEEP, "9" * 5000, "null", "[]", "{}", '"text"', "-1", "1e999", "NaN", "0", "true", '{"a": {}}',
    '["\\ud800"]', "[[1], null, {}]", '"\\u001b[2J\\u202e"', "{", "", "1e300", "[1, 2, 3]",
]  # fmt: skip
ODD_SQL = [
    None, "", "text", b"\xff\xfe\x00", -1, 2**62, -(2**62), float("inf"), float("nan"), -1e308, 0,
    "\x1b[2J\u202e", DEEP[:2000], "x" * 100_000, 1e20, "9" * 400,
]  # fmt: skip
COLUMNS = [
    ("points", "step"), ("points", "value"), ("points", "series"), ("series", "quantity"),
    ("series", "place"), ("series", "unit"), ("meta", "key"), ("events", "time"),
    ("events", "step"), ("events", "kind"), ("events", "message"), ("predictions", "split"),
    ("predictions", "name"), ("predictions", "target"), ("predictions", "predicted"),
    ("predictions", "probability"), ("predictions", "thumbnail"), ("diagnoses", "body"),
    ("diagnoses", "time"),
]  # fmt: skip
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x, x, x FROM n"
WHOLE_FILE = ["fifo", "link", "folder", "empty", "cut", "flipped", "huge", "deep", "unreadable"]


def sql(run, statement, *values):
    with closing(sqlite3.connect(run / "run.db")) as database, suppress(sqlite3.Error):
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute(statement, values)
        database.commit()


def odd_value(run, random, _outside):
    table, column = random.choice(COLUMNS)
    value = random.choice(ODD_SQL)
    sql(run, f"UPDATE {table} SET {column} = ? WHERE rowid % 2 = 1", value)
    return f"{table}.{column} = {str(value)[:30]!r}"


def odd_fact(run, random, _outside):
    with closing(sqlite3.connect(run / "run.db")) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM meta")]
    key, value = random.choice(keys), random.choice(ODD_JSON)
    sql(run, "UPDATE meta SET value = ? WHERE key = ?", value, key)
    return f"meta.{key} = {value[:30]!r}"


def odd_detail(run, random, _outside):
    value = random.choice(ODD_JSON)
    sql(run, "INSERT INTO events VALUES (1e9, 3, 'final', 'm', ?)", value)
    return f"event detail {value[:30]!r}"


def foreign_table(run, random, outside):
    table = random.choice(["points", "meta", "events", "predictions", "diagnoses", "series"])
    kind = random.choice(["view", "trigger", "dropped", "virtual", "column"])
    if kind == "trigger":
        sql(run, f"CREATE TRIGGER t AFTER INSERT ON {table} BEGIN DELETE FROM meta; END")
    elif kind == "column":
        sql(run, f"ALTER TABLE {table} ADD COLUMN more TEXT")
    else:
        sql(run, f"DROP TABLE {table}")
    if kind == "view":
        sql(run, f"CREATE VIEW {table} AS {ENDLESS}")
    if kind == "virtual":
        sql(run, f"CREATE VIRTUAL TABLE {table} USING fts5(a, b, c)")
    return f"{kind} {table}"


def damaged_file(run, random, outside):
    files = [path for path in sorted(run.rglob("*")) if path.is_file()]
    path, how = random.choice(files), random.choice(WHOLE_FILE)
    data = path.read_bytes()
    if how not in {"cut", "flipped", "unreadable"}:
        path.unlink()
    if how == "fifo":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to(random.choice([outside, "/proc/self/environ", "/dev/zero", "nowhere"]))
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.touch()
    elif how == "cut":
        path.write_bytes(data[: random.randrange(len(data) or 1)])
    elif how == "flipped":
        place = random.randrange(len(data) or 1)
        path.write_bytes(data[:place] + bytes([(data + b"\0")[place] ^ 0x55]) + data[place + 1 :])
    elif how == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 33)  # sparse: no disk is used
    elif how == "deep":
        path.write_text(DEEP)
    else:
        path.chmod(0)
    return f"{path.relative_to(run)}: {how}"


def linked_folder(run, random, outside):
    path = run / random.choice(["model", "checkpoints"])
    target = outside.parent / f"linked-{path.name}"
    shutil.rmtree(target, ignore_errors=True)
    path.rename(target)
    path.symlink_to(target)
    return f"{path.name} is a link"


def planted_link(run, random, outside):
    """A link to a file of the user, under a name that thalweg writes."""
    names = [
        "report.html", "report.html.new", "run.lock", "spectrum.svg", "spectrum.json",
        "run.db-wal", "run.db-shm", "run.db-journal", "model.new", "model.old", "recipe.toml.new",
    ]  # fmt: skip
    path = run / random.choice(names)
    with suppress(OSError):
        path.unlink()
    path.symlink_to(outside)
    return f"{path.name} is a link"


def odd_model(run, random, _outside):
    """A value of another type or size in model.json; the weights keep their digest."""
    path = run / "model" / "model.json"
    manifest = json.loads(path.read_text())
    key = random.choice(list(manifest))
    value = random.choice([None, -1, 10**7, 10**30, 1e300, "x", [], {}, [[]], True, [10**9] * 3])
    if random.random() < 0.5 and isinstance(manifest[key], dict) and manifest[key]:
        inner = random.choice(list(manifest[key]))
        manifest[key][inner] = value
        key = f"{key}.{inner}"
    else:
        manifest[key] = value
    if random.random() < 0.2:
        manifest["changes"] = {"depth": 10**7}
        key, value = "changes.depth", 10**7
    path.write_text(json.dumps(manifest))
    return f"model.json {key} = {value!r}"


def odd_checkpoint(run, random, _outside):
    """A manifest with an odd value, sealed again with its digest."""
    path = random.choice(sorted((run / "checkpoints").glob("step-*"))) / "manifest.json"
    manifest = json.loads(path.read_text())["manifest"]
    target, key = manifest, random.choice(list(manifest))
    while isinstance(target[key], dict) and target[key] and random.random() < 0.7:
        target = target[key]
        key = random.choice(list(target))
    value = random.choice([None, -5, 10**9, 10**30, "x", [], {}, [[1]], 1e300, True])
    target[key] = value
    step = manifest.get("step")
    body = json.dumps(manifest)
    seal = {"sha256": sha256(body.encode()).hexdigest(), "manifest": manifest}
    path.write_text(json.dumps(seal))
    if random.random() < 0.5 and isinstance(step, int) and abs(step) < 10**10:
        path.parent.rename(path.parent.with_name(f"step-{step:08d}"))
    return f"manifest {key} = {value!r}"


MUTATIONS = [
    odd_value, odd_fact, odd_detail, foreign_table, damaged_file, linked_folder, planted_link,
    odd_model, odd_checkpoint,
]  # fmt: skip
