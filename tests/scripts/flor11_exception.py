"""An exception ends the training: the traceback and status are the script's own, and the epochs before it can be replayed."""
import random

random.seed(3)
weight = 1.0
for epoch in range(8):
    for step in range(6):
        weight += random.uniform(-0.1, 0.2)
        #+inner print("@@ inner", epoch, step, repr(weight))
        if weight > 2.6:
            raise RuntimeError(f"diverged at epoch {epoch}")
    #+outer print("@@ outer", epoch, repr(weight))
    print("epoch", epoch)
