"""Files from before the run, and of every form: resumed from, appended to, rotated, linked, kept in a database, cached, listed."""
import contextlib
import glob
import json
import logging
import os
import pickle
import shelve
import shutil
import sqlite3
import tempfile
from pathlib import Path

import numpy as np



def scored(epoch, w):
    with contextlib.closing(sqlite3.connect("old/runs.db")) as database, database:
        database.execute("create table if not exists scores (epoch integer, w real)")
        database.execute("insert into scores values (?, ?)", (epoch, w))
        return [row[0] for row in database.execute("select round(w, 6) from scores order by epoch")]


out = Path("out")
logging.basicConfig(filename="old/train.log", filemode="a", level=logging.INFO, format="%(levelname)s %(message)s")
rng = np.random.default_rng(1)
start, w = 0, 0.0
if os.path.isfile("old/state.json"):
    state = json.loads(Path("old/state.json").read_text())
    start, w = state["epoch"], state["w"]
print("from", start, w, out.exists())
(out / "ckpt").mkdir(parents=True, exist_ok=True)
best = None
for epoch in range(start, start + 6):
    if epoch % 3 == start % 3:
        np.save(out / f"table{epoch}.npy", rng.random(4))  # read in later epochs
        shutil.rmtree(out / "tmp", ignore_errors=True)
        os.makedirs(out / "tmp" / "deep")
    for step in range(3):
        w = 0.5 * w + rng.random()
        key = int(w * 10) % 4
        cache = out / "tmp" / f"item{key}.pkl"
        if not cache.exists():
            cache.write_bytes(pickle.dumps(rng.random()))  # a cache on disk, that draws when it is empty
        w += pickle.loads(cache.read_bytes()) * 0.1
        with (out / "steps.jsonl").open("a") as file:
            print(json.dumps({"epoch": epoch, "step": step, "w": w}), file=file)
        #+inner print("@@ inner", epoch, step, repr(w), key, sorted(p.name for p in (out / "tmp").iterdir()), sum(1 for _ in open(out / "steps.jsonl")))
    scores = scored(epoch, w)
    name = out / "ckpt" / f"{epoch:03d}.pkl"
    with tempfile.NamedTemporaryFile(dir=out / "ckpt", delete=False) as temporary:
        temporary.write(pickle.dumps({"w": w, "epoch": epoch}))
    os.replace(temporary.name, name)
    del temporary
    link = out / "latest"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(Path("ckpt") / name.name)
    for old in sorted(glob.glob("out/ckpt/*.pkl"))[:-2]:
        os.remove(old)
    if best is None or w > best:
        best = w
        shutil.copy2(name, out / "best.pkl")
    elif os.path.getmtime(out / "best.pkl") <= os.path.getmtime(name):
        w = pickle.loads((out / "latest").read_bytes())["w"] * 0.5 + pickle.loads((out / "best.pkl").read_bytes())["w"] * 0.1
    with shelve.open("out/shelf") as shelf:
        shelf[str(epoch)] = w
        w += 0.01 * len(shelf)
    tables = sorted(glob.glob("out/table*.npy"))
    w += sum(float(np.load(path).sum()) for path in tables) * 0.1
    Path("old/state.json").write_text(json.dumps({"epoch": epoch + 1, "w": w}))
    logging.info("epoch %d %.6f", epoch, w)
    shutil.copytree(out / "ckpt", out / "copy", dirs_exist_ok=True)
    with open("old/history.csv", "r+") as file:
        lines = file.readlines()
        file.write(f"{epoch},{w:.9f}\n")
    print(epoch, f"{w:.6f}", len(lines), tables, sorted(os.listdir(out / "ckpt")), os.readlink(link), scores[-2:])
    #+outer print("@@ outer", epoch, repr(w), lines[-1:], os.readlink(link), scores, sorted(os.listdir(out / "copy")), Path("old/train.log").stat().st_size)
w = pickle.loads((out / "best.pkl").read_bytes())["w"]
print("best", w, Path("old/train.log").read_text().count("\n"), sum(1 for _ in open(out / "steps.jsonl")))
#+inner print("@@ after", repr(w), sorted(str(p) for p in out.rglob("*.pkl")))
