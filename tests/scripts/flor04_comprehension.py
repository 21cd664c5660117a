"""Comprehensions and lambdas in the loop that read its locals (Flor: NameError while recording)."""
import random


def main():
    rng = random.Random(9)
    table = {}
    for epoch in range(5):
        offset = rng.random()
        rows = [[offset + i * j for i in range(4)] for j in range(3)]
        table[epoch] = {k: sum(v * offset for v in row) for k, row in enumerate(rows)}
        pick = sorted(rows, key=lambda row: -row[epoch % 4] * offset)
        for row in pick:
            offset += sum(x for x in row if x > offset) / 100
            #+inner print("@@ inner", epoch, repr(offset), [round(x * offset, 12) for x in row])
        #+outer print("@@ outer", epoch, repr(offset), {k: repr(v) for k, v in table[epoch].items()})
    return table


print(sum(v for row in main().values() for v in row.values()))
