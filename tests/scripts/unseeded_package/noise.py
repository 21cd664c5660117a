"""Draws at import, before the script has done anything."""
import os
import random
import time
import uuid
from dataclasses import dataclass, field

import numpy as np
import torch

BIAS = random.random() + np.random.rand() + torch.rand(1).item()
TOKEN = uuid.uuid4().hex
SALT = os.urandom(4)
STARTED = time.time()
SHUFFLED = list(range(6))
random.shuffle(SHUFFLED)


class Augment:
    rng = np.random.default_rng()

    def __init__(self, clock=time.time):
        self.made = clock()
        self.own = random.Random()

    def __call__(self, value):
        return value + self.rng.normal() * 0.01 + self.own.gauss(0, 0.01) + torch.randn(()).item() * 0.01


@dataclass
class Row:
    value: float
    at: float = field(default_factory=lambda: time.time())
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
