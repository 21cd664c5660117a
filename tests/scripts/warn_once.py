"""Warnings that Python shows once per process: from a library's line and from the script's own, in a loop."""
import warnings

import numpy as np

rng = np.random.default_rng(2)
total = 0.0
for epoch in range(6):
    for batch in range(3):
        total += float(rng.random())
        if batch == 1:
            warnings.warn("the data is random", stacklevel=1)
        #+inner print("@@ inner", epoch, batch, repr(total))
    if epoch > 1:
        np.polyfit(np.arange(3.0), rng.random(3), 4)
    #+outer print("@@ outer", epoch, repr(total))
    print(f"epoch {epoch} {total:.4f}")
