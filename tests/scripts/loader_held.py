"""Loaders without processes whose iterators live across steps and epochs, and every wrapper around them that training scripts use.
# quick: inner
"""
import functools
import itertools
import random
import sys

import numpy as np
import torch
from rich.progress import track
from torch.utils.data import ChainDataset, ConcatDataset, DataLoader, Dataset, IterableDataset, StackDataset, Subset, TensorDataset, random_split
from tqdm.auto import tqdm

STYLE = dict(bar_format="{desc} {n_fmt}/{total_fmt}", mininterval=0, miniters=1, file=sys.stderr)


class Remembered(Dataset):
    """Draws once for each item, and keeps what it has drawn."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    @functools.lru_cache(maxsize=7)  # noqa: B019
    def item(self, i):
        return torch.rand(2) + i

    def __getitem__(self, i):
        return self.item(i)


class Lines(IterableDataset):
    def __init__(self, low, high):
        self.low, self.high = low, high

    def __iter__(self):
        yield from (torch.full((2,), float(i)) for i in range(self.low, self.high))


class Endless:
    """An infinite iterator that is a class of the user's."""

    def __init__(self, loader):
        self.loader, self.it, self.rounds = loader, iter(loader), 0

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.it)
        except StopIteration:
            self.rounds += 1
            self.it = iter(self.loader)
            return next(self.it)


def jittered(scale):
    drawn = [0]

    def collate(items):
        drawn[0] += 1
        return torch.stack([item[0] if isinstance(item, tuple) else item for item in items]) + scale * torch.rand(1) + random.random() * 0.01

    collate.drawn = drawn
    return collate


def batches(table, size, rng):
    order = rng.permutation(len(table))
    for at in range(0, len(order), size):
        yield table[order[at : at + size]]


torch.manual_seed(0)
random.seed(0)
np.random.seed(0)
x = torch.randn(18, 2)
table = np.random.randn(12, 2)
rng = np.random.default_rng(4)
collate = jittered(0.1)
g = torch.Generator().manual_seed(9)
train, held = random_split(TensorDataset(x), [13, 5], generator=torch.Generator().manual_seed(1))
plain = DataLoader(train, batch_size=4, shuffle=True, collate_fn=collate, generator=g, worker_init_fn=print, drop_last=True)
stacked = DataLoader(StackDataset(x, torch.arange(18)), batch_size=5, shuffle=True)
joined = DataLoader(ConcatDataset([TensorDataset(x[:4]), Subset(TensorDataset(x), [9, 3, 3])]), batch_size=3, shuffle=True)
chained = DataLoader(ChainDataset([Lines(0, 3), Lines(5, 9)]), batch_size=2)
remembered = DataLoader(Remembered(6), batch_size=4, shuffle=True)
first = iter(plain)
endless = Endless(remembered)
cycled = itertools.cycle(joined)
zipped = iter(zip(itertools.count(1), itertools.cycle(chained)))  # noqa: B905
total = torch.zeros(2)
bar = tqdm(total=3 * 4, desc="all", **STYLE)
for epoch in range(4):
    for step in range(3):
        batch = next(first, None)
        if batch is None:
            first = iter(plain)
            batch = next(first)
        total = 0.9 * total + batch.sum(0) + next(endless).sum(0)
        total = total + next(cycled)[0].mean(0)
        number, part = next(zipped)
        total = total + part.mean(0) / number
        bar.update()
        #+inner print("@@ inner", epoch, step, repr(total.tolist()), endless.rounds, collate.drawn, number, bar.n)
    for i, (u, k) in enumerate(tqdm(stacked, desc=f"epoch {epoch}", leave=False, **STYLE), start=1):
        total = total + u.mean(0) * i + k.float().mean()
        #+inner print("@@ wrapped", epoch, i, repr(total.tolist()))
    for u, v in zip(plain, itertools.islice(joined, 2)):  # noqa: B905
        total = 0.5 * total + u.sum(0) + v[0].sum(0)
    for b in batches(table, 5, rng):
        total = total + float(b.sum())
        #+inner print("@@ arrays", epoch, repr(total.tolist()))
    for u in track(held, description="held", disable=True):
        total = 0.9 * total + u[0]
    bar.set_postfix(total=f"{total.sum().item():.3f}")
    print(epoch, f"{total.sum().item():.5f}", Remembered.item.cache_info())
    #+outer print("@@ outer", epoch, repr(total.tolist()), Remembered.item.cache_info(), repr(rng.bit_generator.state["state"]["state"]), g.initial_seed())
bar.close()
