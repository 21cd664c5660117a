"""A log and a CSV file are opened before the loop and written in it."""
import csv

import numpy as np

rng = np.random.default_rng(3)
w = np.zeros(3)
log = open("train.log", "w")
table = open("table.csv", "w", newline="")
rows = csv.writer(table)
rows.writerow(["epoch", "w"])
for epoch in range(6):
    for batch in range(3):
        w = w + rng.normal(size=3)
        log.write(f"{epoch} {batch} {w.sum()!r}\n")
        #+inner print("@@ inner", epoch, batch, repr(w.sum()))
    rows.writerow([epoch, float(w[0])])
    log.flush()
    #+outer print("@@ outer", epoch, repr(w.sum()), len(open("train.log").read()), log.tell())
    print(f"epoch {epoch} {w.sum():.4f}")
log.close()
table.close()
print(open("train.log").read(), open("table.csv").read())
