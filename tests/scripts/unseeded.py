"""Nothing is seeded: the recorded run is the only truth, and each hindsight line repeats what that run has printed.
# truth: recorded
"""
import random

import numpy as np
import torch

w = torch.randn(3)
for epoch in range(5):
    for step in range(3):
        w = w * 0.9 + torch.randn(3) * random.random() + float(np.random.rand())
        print("logged inner", epoch, step, repr(w.sum().item()), random.getstate()[1][-1])
        #+inner print("@@ inner", epoch, step, repr(w.sum().item()), random.getstate()[1][-1])
    print("logged outer", epoch, repr(w.tolist()))
    #+outer print("@@ outer", epoch, repr(w.tolist()))
