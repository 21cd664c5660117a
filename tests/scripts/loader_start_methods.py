"""Loaders whose processes are started by fork, spawn and forkserver, kept or not, and iterators over them that are held across epochs.
# quick: none
"""
import itertools
import random

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info


class Noisy(Dataset):
    def __init__(self, n):
        self.n, self.seen = n, {}

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.seen[i] = self.seen.get(i, 0) + 1
        return torch.rand(2) + random.random() + float(np.random.rand()) + i + self.seen[i]


class Shards(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        for i in range(info.id, self.n, info.num_workers):
            yield torch.rand(2) * info.num_workers + i


def init(worker_id):
    np.random.seed((worker_id + torch.initial_seed()) % 2**32)


def collate(items):
    return torch.stack(items) + torch.rand(1) + get_worker_info().seed % 7


def endless(loader):
    while True:
        yield from loader


def main():
    torch.manual_seed(3)
    random.seed(3)
    g = torch.Generator().manual_seed(5)
    data = Noisy(6)
    options = {"batch_size": 2, "num_workers": 2, "worker_init_fn": init, "collate_fn": collate}
    loaders = {
        "fork": DataLoader(data, shuffle=True, multiprocessing_context="fork", generator=g, prefetch_factor=1, **options),
        "spawn": DataLoader(data, shuffle=True, multiprocessing_context="spawn", persistent_workers=True, **options),
        "forkserver": DataLoader(Shards(5), multiprocessing_context="forkserver", persistent_workers=True, **options),
    }
    mixed = DataLoader(TensorDataset(torch.randn(8, 2)), batch_size=2, shuffle=True, num_workers=1)
    first = iter(mixed)
    cycled = itertools.cycle(DataLoader(Shards(3), batch_size=1, num_workers=2))
    own = endless(DataLoader(data, shuffle=True, num_workers=1, persistent_workers=True))
    total = torch.zeros(2)
    for epoch in range(3):
        for name, loader in loaders.items():
            for batch in loader:
                total = 0.9 * total + batch.sum(0)
                #+inner print("@@ inner", epoch, name, repr(total.tolist()))
        for step in range(3):
            try:
                (batch,) = next(first)
            except StopIteration:
                first = iter(mixed)
                (batch,) = next(first)
            total = total + batch.mean(0) + next(cycled)[0] + next(own)[0]
            #+held print("@@ held", epoch, step, repr(total.tolist()))
        print(epoch, f"{total.sum().item():.5f}", data.seen)
        #+outer print("@@ outer", epoch, repr(total.tolist()))


if __name__ == "__main__":
    main()
