"""The clock and entropy in every place of the language: nothing of it is seeded, so the recorded run is the only truth.
# truth: recorded
"""
import asyncio
import contextlib
import copy
import datetime as dt
import os
import random
import secrets
import tempfile
import time
import timeit
import uuid
from datetime import date, datetime
from random import Random, SystemRandom
from time import perf_counter as pc
from time import time as now

import numpy as np
import torch


def stamped(function, at=time.time()):  # noqa: B008
    function.at = at
    return function


@stamped
def default(moment=time.perf_counter(), *, day=date.today()):  # noqa: B008
    return moment, str(day)


def ticking(n):
    for _ in range(n):
        yield time.monotonic_ns()


@contextlib.contextmanager
def timed(into):
    begin = pc()
    yield
    into.append(pc() - begin)


class Timer:
    made = time.time_ns()

    def __init__(self, clock=time.perf_counter):
        self.clock = clock
        self.begin = self.clock()

    def __enter__(self):
        self.begin = self.clock()
        return self

    def __exit__(self, *_):
        self.seconds = self.clock() - self.begin

    @property
    def elapsed(self):
        return time.process_time() - 1


class Trainer:
    def __init__(self):
        self.clock = time.time
        self.stamp = lambda: time.time_ns()
        self.timer = timeit.default_timer
        self.unique = uuid.uuid4

    def callback(self, clock):
        return clock()


async def later():
    await asyncio.sleep(0)
    return time.monotonic()


trainer = Trainer()
tick = time.perf_counter_ns
system = SystemRandom()
free, rng, legacy = Random(), np.random.default_rng(), np.random.RandomState()
g = torch.Generator()
w = 0.0
for epoch in range(5):
    random.seed()
    np.random.seed()
    torch.seed()
    g.seed()
    spent = []
    for step in range(3):
        with timed(spent), Timer() as timer:
            w = 0.5 * w + random.random() + free.random() + rng.random() + legacy.rand() + torch.rand(1, generator=g).item()
        values = [time.time() for _ in range(2)] + [now(), tick(), timer.seconds, timer.elapsed, Timer.made, *spent, *ticking(2)]
        values += list({time.time_ns(): 0}) + sorted({time.time_ns() for _ in range(1)}) + list(time.time_ns() for _ in range(1))  # noqa: C400
        values += [trainer.clock(), trainer.stamp(), trainer.timer(), trainer.callback(time.time), (lambda: time.time())()]
        values += [f"{time.time()} {datetime.now():%f}", str(datetime.utcnow()), str(dt.datetime.today()), time.ctime()]
        values += [time.strftime("%X")]
        values += [os.urandom(3).hex(), secrets.token_hex(2), str(uuid.uuid1()), str(trainer.unique()), secrets.randbelow(100)]
        values += [system.random(), system.getrandbits(9), SystemRandom().randint(0, 99), secrets.choice("abc")]
        values += [secrets.SystemRandom().uniform(0, 1)]
        values += [default(), default.at, str(time.localtime()), asyncio.run(later()), torch.initial_seed()]
        values += [np.random.SeedSequence().entropy]
        values += [random.SystemRandom().shuffle([1, 2, 3]), secrets.token_urlsafe(3)]
        inner = list(map(np.random.default_rng, [None]))[0]  # libraries that draw: nothing here is a call of a source
        values += [inner.random(), copy.deepcopy(inner).random(), {"of": random.SystemRandom}["of"]().random()]
        w += inner.random() / 8
        if int(time.time() * 1000) % 2:
            w += 0.25
        print("logged inner", epoch, step, repr(w), values)
        #+inner print("@@ inner", epoch, step, repr(w), values)
    descriptor, path = tempfile.mkstemp(suffix=".bin")
    os.close(descriptor)
    del descriptor
    folder = tempfile.mkdtemp(prefix="run")
    with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryDirectory() as third:
        names = [path, folder, file.name, third]
    os.remove(path)
    os.rmdir(folder)
    print("logged outer", epoch, repr(w), os.getpid() > 0, names)
    #+outer print("@@ outer", epoch, repr(w), os.getpid() > 0, names)
