"""Samplers with state and without, batch samplers, splits, caches in data sets, and a warning that a loader repeats."""
import itertools
import random

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


class Counting(Sampler):
    def __init__(self, n):
        self.n, self.served, self.passes = n, 0, 0

    def __iter__(self):
        self.passes += 1
        order = list(range(self.n))
        random.shuffle(order)
        for i in order:
            self.served += 1
            yield (i + self.passes) % self.n

    def __len__(self):
        return self.n


class Buckets:
    def __init__(self, sampler, size):
        self.sampler, self.size, self.left = sampler, size, []

    def __iter__(self):
        for i in self.sampler:
            self.left.append(i)
            if len(self.left) == self.size:
                yield self.left
                self.left = []

    def __len__(self):
        return len(self.sampler) // self.size


class Infinite(Sampler):
    def __init__(self, n, seed):
        self.n, self.g = n, torch.Generator().manual_seed(seed)

    def __iter__(self):
        while True:
            yield from torch.randperm(self.n, generator=self.g).tolist()


class Cached(Dataset):
    def __init__(self, data):
        self.data, self.cache, self.hits = data, {}, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        if i in self.cache:
            self.hits += 1
        else:
            self.cache[i] = self.data[i] * 2 + torch.rand(1)
        return self.cache[i] + 0.01 * torch.rand(1)


class Stream(IterableDataset):
    def __init__(self, n):
        self.n, self.start = n, 0

    def __iter__(self):
        for i in range(self.start, self.start + self.n):
            yield torch.full((2,), float(i)) + torch.rand(2)
        self.start += 1


torch.manual_seed(0)
random.seed(0)
x = torch.randn(24, 2)
one, two = random_split(TensorDataset(x), [16, 8])
own = torch.Generator().manual_seed(5)
counting = Counting(24)
distributed = DistributedSampler(x, num_replicas=2, rank=1, shuffle=True, seed=3)
cached = Cached(x)
loaders = {
    "own": DataLoader(one, batch_size=3, shuffle=True, generator=own),
    "counting": DataLoader(x, batch_size=5, sampler=counting),
    "buckets": DataLoader(x, batch_sampler=Buckets(counting, 5)),
    "batch": DataLoader(x, batch_sampler=BatchSampler(RandomSampler(x, replacement=True, num_samples=10), 4, True)),
    "subset": DataLoader(x, batch_size=2, sampler=SubsetRandomSampler(range(0, 24, 3))),
    "weighted": DataLoader(x, batch_size=4, sampler=WeightedRandomSampler([float(i + 1) for i in range(24)], 9)),
    "distributed": DataLoader(x, batch_size=4, sampler=distributed),
    "cached": DataLoader(cached, batch_size=6, shuffle=True, pin_memory=True),
    "stream": DataLoader(Stream(5), batch_size=2),
    "none": DataLoader(x, batch_size=None, sampler=counting),
}
endless = iter(DataLoader(x, batch_size=3, sampler=Infinite(24, 7)))
total = torch.zeros(2)
for epoch in range(4):
    distributed.set_epoch(epoch)
    for loader in loaders.values():
        for batch in loader:
            batch = batch[0] if isinstance(batch, list) else batch
            total = 0.99 * total + batch.reshape(-1, 2).sum(0)
            #+inner print("@@ inner", epoch, repr(total.tolist()))
    for batch in itertools.islice(endless, 5):
        total = total + batch.mean(0)
    for (batch,) in DataLoader(two, batch_size=3, shuffle=True):
        total = total + batch.mean(0)
    #+outer print("@@ outer", epoch, repr(total.tolist()), counting.served, counting.passes, cached.hits, len(cached.cache))
    print(epoch, f"{total.sum().item():.6f}", cached.hits)
