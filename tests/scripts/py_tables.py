"""Tables, pixels, caches and log handlers that change in the loop."""
import functools
import logging
import sys

import pandas as pd
from PIL import Image


@functools.lru_cache(maxsize=3)
def square(x):
    return [x * x]


log = logging.getLogger("table")
log.addHandler(logging.StreamHandler(sys.stdout))
log.setLevel(logging.INFO)
table = pd.DataFrame({"epoch": [0], "loss": [1.0]})
image = Image.new("L", (8, 8))
for epoch in range(6):
    table.loc[len(table)] = [epoch, 1 / (epoch + 1)]
    table["double"] = table["loss"] * 2
    for step in range(4):
        image.putpixel((epoch, step), 10 * epoch + step)
        square(epoch * step).append(step)
        #+inner print("@@ inner", epoch, step, image.getpixel((epoch, step)), square.cache_info())
    if epoch == 2:
        log.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log.info("epoch %d", epoch)
    #+outer print("@@ outer", epoch, table["double"].sum(), sum(image.tobytes()), square.cache_info())
    print(epoch, len(table))
