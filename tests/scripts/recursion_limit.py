"""Loops that begin close below the recursion limit, which the script changes: snapshots need more frames than are left."""
import sys


def descend(n):
    if n == 0:
        total = 0
        for i in range(3):
            total += i
            #+deep print("@@ deep", epoch, total, sys.getrecursionlimit())
        return total
    return descend(n - 1)


done = 0
for epoch in range(4):
    sys.setrecursionlimit(1100 + epoch)
    for depth in range(1000, 1066, 2):
        done += descend(depth)
    #+outer print("@@ outer", epoch, done, sys.getrecursionlimit())
    print(epoch, done, sys.getrecursionlimit())
