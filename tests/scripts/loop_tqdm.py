"""Progress bars around the epochs and around the loader, and one that is updated by hand."""
import random
import sys
import time

from tqdm import tqdm, trange

random.seed(2)
STYLE = dict(bar_format="{desc} {n_fmt}/{total_fmt}", mininterval=0, miniters=1)  # without times, so that runs compare
total = 0.0
history = []
for epoch in tqdm(range(6), desc="epochs", file=sys.stderr, **STYLE):
    with tqdm(total=5, leave=False, **STYLE) as bar:
        for step, value in enumerate(tqdm([random.random() for _ in range(5)], desc=f"epoch {epoch}", leave=False, **STYLE)):
            total += value
            bar.update(1)
            bar.set_postfix(total=total)
            #+inner print("@@ inner", epoch, step, repr(total), bar.n)
    history.append(total)
    time.sleep(0.02)
    tqdm.write(f"epoch {epoch} {total:.6f}")
    #+outer print("@@ outer", epoch, repr(total), bar.n)
for i in trange(3, disable=True):
    total += i
print("end", total, len(history))
#+after print("@@ after", repr(total), history[-1])
