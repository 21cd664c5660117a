"""Tables, sparse matrices, pixels, configurations, caches and log handlers that change in the loop, and are born in it."""
import functools
import logging
import sys

import numpy as np
import pandas as pd
import scipy.sparse as sparse
from omegaconf import OmegaConf
from PIL import Image


@functools.lru_cache(maxsize=3)
def square(x):
    return [x * x]


log = logging.getLogger("table")
log.addHandler(logging.StreamHandler(sys.stdout))
log.setLevel(logging.INFO)
table = pd.DataFrame({"epoch": [0], "loss": [1.0]})
image = Image.new("L", (8, 8))
weights = sparse.lil_matrix((6, 6))
shared = sparse.csr_matrix(np.eye(3))
alias = shared.data
settings = OmegaConf.create({"optim": {"rate": 1.0, "steps": [1]}, "half": "${optim.rate}"})
history = []
for epoch in range(6):
    table.loc[len(table)] = [epoch, 1 / (epoch + 1)]
    table["double"] = table["loss"] * 2
    for step in range(4):
        image.putpixel((epoch, step), 10 * epoch + step)
        square(epoch * step).append(step)
        #+inner print("@@ inner", epoch, step, image.getpixel((epoch, step)), square.cache_info())
    weights[epoch, epoch - 1] = epoch
    alias *= 2
    settings.optim.rate /= 2
    settings.optim.steps.append(epoch)
    picture = Image.new("RGB", (4, 4), (epoch, 0, 0))
    frame = table.groupby(table["epoch"] % 2).agg(total=("loss", "sum"), last=("loss", "last"))
    frame.index = pd.to_datetime(["2026-01-01", "2026-01-02"])[: len(frame)]
    frame["kind"] = pd.Categorical(["a", "b"][: len(frame)])
    history.append((weights.tocsr(), picture, frame, table["loss"], OmegaConf.to_container(settings)))
    if epoch == 2:
        log.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log.info("epoch %d", epoch)
    #+outer print("@@ outer", epoch, table["double"].sum(), sum(image.tobytes()), square.cache_info())
    #+outer print("@@ sparse", [(m.nnz, m.sum()) for m, *_ in history], shared.sum(), shared.data is alias)
    #+outer print("@@ born", [p.getpixel((1, 1)) for _, p, *_ in history], history[-1][2].to_dict(), history[0][3].sum(), settings.half)
    print(epoch, len(table), settings.half, len(settings.optim.steps))
