"""`with open(…)` at module level leaves closed files behind; functions of `os` and `io` under names of the script's own."""
import os
from io import open
from os import makedirs, remove

import numpy as np

rng = np.random.default_rng(3)
tools = {"remove": remove, "folder": makedirs}
w = np.zeros(3)
best = None
f = None
for epoch in range(6):
    for batch in range(3):
        w = w + rng.normal(size=3)
        #+inner print("@@ inner", epoch, batch, repr(w.sum()), f and (f.name, f.mode, f.closed))
    tools["folder"]("out", exist_ok=True)
    with open(f"out/epoch{epoch}.bin", "wb") as f:
        f.write(w.tobytes())
    with open("out/log.txt", "a", encoding="utf-8") as log:
        log.write(f"{epoch} {w.sum()!r}\n")
    if epoch >= 2:
        tools["remove"](f"out/epoch{epoch - 2}.bin")
    #+outer print("@@ outer", epoch, f.name, log.name, log.mode, log.encoding, f.closed, sorted(os.listdir("out")), len(open("out/log.txt").read()))
    print(f"epoch {epoch} {w.sum():.4f}")
print(sorted(os.listdir("out")), open("out/log.txt").read())
