"""try/except, an annotated assignment, `with` and `match` in loops (Flor's transform failed)."""
import contextlib
import random

random.seed(1)
failures: int = 0
total: float = 0.0
for epoch in range(6):
    best: float = 1e9
    for step in range(10):
        try:
            value: float = random.random()
            if value < 0.15:
                raise ValueError("too small")
            best = min(best, value)
            #+inner print("@@ inner", epoch, step, repr(value), failures)
        except ValueError as error:
            failures += 1
            #+handler print("@@ handler", epoch, step, error, failures)
            continue
        finally:
            total += best
        with contextlib.suppress(KeyError):
            {}[step]
        match step % 3:
            case 0:
                total += 1
            case other:
                total -= other / 7
    else:
        total += 0.5
    #+outer print("@@ outer", epoch, repr(total), repr(best))
print("end", repr(total), failures)
