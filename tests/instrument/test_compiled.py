"""A model that `torch.compile` takes gives as many graphs and breaks as without us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HELPER = """
import torch
def scale(x, n=3):
    for i in range(n):
        x = x * 1.5 + i
    k = 0
    while k < 2:
        k += 1
        x = x.sin()
    while k:
        k -= 1
    else:
        x = x + 1
    return x
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(4, 4)
    def block(self, x):
        for i in range(2): x = self.l(x)
        return x
    def forward(self, x): return scale(self.block(x))
"""
MAIN = """
import torch
from helper import Net
def local(x):
    for i in range(2): x = x + i
    return x
class Outer(Net):
    def forward(self, x): return local(super().forward(x))
torch.manual_seed(0)
net = Outer()
found = torch._dynamo.explain(net)(torch.ones(2, 4))
print(found.graph_count, found.graph_break_count)
print(torch.compile(net, backend="eager", fullgraph=True)(torch.ones(2, 4)).tolist())
"""


@pytest.mark.slow
def test_as_many_graphs_and_breaks(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "main.py").write_text(MAIN)
    driver = str(Path(__file__).with_name("drive.py"))
    plain, ours = (
        subprocess.run([sys.executable, *before, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
        for before in ([], [driver])
    )
    assert plain.stdout.startswith("1 0\n"), plain.stderr
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, plain.returncode)
