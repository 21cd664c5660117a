"""A scripted and a traced module, whose attributes live in C, and compiled ones with a graph break, trained side by side. What
was compiled is written to a file, for recording must change nothing of that.

# quick: none
"""
import json
import time
import warnings
from pathlib import Path

import torch

warnings.simplefilter("ignore")
torch.manual_seed(0)


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.calls: int = 0
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        self.calls += 1
        self.seen.add_(1)
        return self.linear(x) * self.calls


class Normed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.norm = torch.nn.BatchNorm1d(3)

    def forward(self, x):
        return self.norm(self.linear(x))


class Broken(Normed):
    def forward(self, x):
        x = self.linear(x)
        torch._dynamo.graph_break()
        return self.norm(x)


x = torch.randn(4, 3)
scripted, traced = torch.jit.script(Counting()), torch.jit.trace(Normed(), x)
inner = Broken()
compiled = torch.compile(inner, backend="aot_eager")
scale = torch.compile(lambda a: (a * 2).sin(), backend="eager")


@torch.compile(backend="eager")
def aged(a, since):
    b = a + 1
    return b.sum() if time.time() >= since else a.sum()  # breaks the graph, with us as without


def age(since):
    return time.time() - since  # read by a function in a module that compiles others: recorded all the same


models = [scripted, traced, compiled]
optimizers = [torch.optim.SGD(model.parameters(), 0.001) for model in models]
for epoch in range(4):
    begin = time.time()
    for step in range(2):
        for model, optimizer in zip(models, optimizers):
            optimizer.zero_grad()
            loss = scale(model(x)).square().mean()
            loss.backward()
            optimizer.step()
        #+inner print("@@ inner", epoch, step, repr(loss.item()), scripted.calls, scripted.seen, traced.linear.weight.sum().item())
    #+outer print("@@ outer", epoch, scripted.calls, scripted.seen, traced.norm.running_mean, inner.norm.running_mean, repr(loss.item()), age(begin) > 0)
    print(epoch, repr(loss.item()), scripted.calls, aged(x, begin).item() > 0)
    begin = age(begin)
counters = torch._dynamo.utils.counters
Path("compiled.json").write_text(json.dumps([counters["stats"], counters["graph_break"], counters["frames"]], sort_keys=True))
