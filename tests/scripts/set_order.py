"""Sets of strings and objects, dictionaries keyed by objects, a Counter, an lru_cache: order and identity must come back.
# env: PYTHONHASHSEED=0
"""
import functools
import random
from collections import Counter, OrderedDict, defaultdict

random.seed(12)


class Arm:
    def __init__(self, name):
        self.name, self.pulls = name, 0


@functools.lru_cache(maxsize=8)
def expensive(x):
    return x * x + 1


arms = [Arm(name) for name in ("left", "right", "middle")]
value = {arm: 0.0 for arm in arms}
words, counts, groups, recent = set(), Counter(), defaultdict(list), OrderedDict()
# what `pop` returns and where a new element goes depends on elements that are long gone
visited, pool = set(), set(range(0, 90, 3))
for epoch in range(6):
    for step in range(10):
        arm = max(value, key=lambda a: value[a] + random.random())
        arm.pulls += 1
        value[arm] += (random.random() - value[arm]) / arm.pulls
        words.add(f"{arm.name}{random.randrange(30)}")
        if len(words) > 12:
            words.discard(next(iter(words)))
        visited.add((step * 7 % 5, arm.name, random.randrange(9)))
        if len(visited) > 9:
            visited.remove(next(iter(visited)))
        pool.add(random.randrange(200) * 32 + pool.pop() % 7)
        counts[arm.name] += expensive(random.randrange(12)) % 3
        groups[step % 3].append(arm)
        recent[arm] = step
        recent.move_to_end(arm, last=False)
        #+inner print("@@ inner", epoch, step, list(words), list(visited), list(pool), arm.name, arm in value)
    #+outer print("@@ outer", epoch, list(words), list(visited), list(pool), [a.name for a in recent], counts.most_common(), groups[0][-1] in arms, expensive.cache_info())
    print(epoch, sorted(counts.items()))
