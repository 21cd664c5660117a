"""Nothing is seeded, or by the clock: what is drawn at import, by every generator, from the system, from the order of hashes.
# truth: recorded
# quick: inner
"""
import functools
import logging
import os
import random
import secrets
import sys
import time
from collections import defaultdict
from datetime import datetime as when
from datetime import timedelta, timezone
from time import perf_counter, strftime

import noise
import numpy as np
import torch
from noise import Augment, Row
from numpy.random import PCG64, Generator
from numpy.random import default_rng as fresh
from torch.utils.data import DataLoader, TensorDataset

names = {f"layer{i}" for i in range(9)}
print("logged head", noise.BIAS, noise.TOKEN, noise.SALT.hex(), noise.STARTED, noise.SHUFFLED, list(names))
#+outer print("@@ head", noise.BIAS, noise.TOKEN, noise.SALT.hex(), noise.STARTED, noise.SHUFFLED, list(names))
augment, stamped = Augment(), functools.partial(when.now, timezone.utc)
seen = defaultdict(lambda: time.monotonic())
bits, free, other = Generator(PCG64()), fresh(), fresh(None)
logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
loader = DataLoader(TensorDataset(torch.randn(9, 2)), batch_size=4, shuffle=True)
deadline, w = when.now() + timedelta(hours=1), 0.0
random.seed(time.time())
np.random.seed(int(time.time() * 1e6) % 2**32)
for epoch in range(4):
    torch.manual_seed(time.time_ns() % 2**40)
    if epoch == 2:
        random.seed(int.from_bytes(os.urandom(4), "big") ^ int(perf_counter() * 1e6))
        np.random.seed(None)
        random.seed(None)
    begin = perf_counter()
    for step, (batch,) in enumerate(loader):
        w = 0.5 * w + augment(batch.sum().item()) + bits.random() + free.random() + other.integers(5) + len(random.choice(sorted(names, key=hash)))
        row = Row(w)
        line = f"{epoch} {step} {w!r} {row} {seen[step]} {stamped()} {secrets.randbits(20)} {random.SystemRandom().randrange(99)}"
        line += f" {strftime('%H:%M:%S')} {list(names)[step]} {hash(f'{step}')}"
        print("logged inner", line)
        #+inner print("@@ inner", line)
    spent = perf_counter() - begin
    w += spent % 1e-3
    logging.info("epoch %d", epoch)
    if time.time() % 1 > 0.5 or when.now() > deadline:
        w += 1.0
    values = [[read() for read in (time.time_ns, perf_counter)], time.strftime("%j"), time.ctime(), str(when.today().date()), f"{when.now(timezone.utc):%H}"]
    print("logged outer", epoch, repr(w), spent, values)
    #+outer print("@@ outer", epoch, repr(w), spent, values)
