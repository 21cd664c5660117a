"""`scripts/bench record`: what recording costs a training, beside what its user would do instead.

Each round runs every variant of a workload once, in an order that is drawn, in processes of their own; ratios are taken within a round, and
their medians told. Results are kept after each run, so that a bench that was interrupted goes on where it stopped.

Variants: plain; recorded with the default budget; recorded with `--every 1`; `torch.save` of the same tensors after each epoch;
`torch.distributed.checkpoint.async_save` of these after each epoch.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from measuring import fresh, machine, of_recording, run, write_section

# Each script trains `sys.argv[2]` epochs, calls `after(epoch, tensors)` at the end of each, and prints what `times` says at its end.
HEAD = '''
import os, sys, time
begin = time.perf_counter()
mode, epochs = sys.argv[1], int(sys.argv[2])
saving, future = 0.0, None

def after(epoch, tensors):
    global saving, future
    if mode == "none":
        return
    start = time.perf_counter()
    if mode == "torch.save":
        import torch
        torch.save(tensors(), f"saved-{epoch}.pt")
    else:
        import torch.distributed.checkpoint as dcp
        if future is not None:
            future.result()
        future = dcp.async_save({"state": tensors()}, checkpoint_id=f"saved-{epoch}")
    saving += time.perf_counter() - start

def state(model, optimizer):
    flat = {f"m{i}": t for i, t in enumerate(model.state_dict().values())}
    flat.update({f"g{i}": p.grad for i, p in enumerate(model.parameters()) if p.grad is not None})
    for i, slots in enumerate(optimizer.state.values()):
        flat.update({f"o{i}.{k}": v for k, v in slots.items() if hasattr(v, "shape")})
    return flat

def done():
    if future is not None:
        future.result()
    print("@", time.perf_counter() - begin, saving)
'''

TRAIN = '''
import torch
from torch import nn
torch.manual_seed(0)
{model}
for epoch in range(epochs):
    for step in range({steps}):
        x = torch.{data}
        loss = {loss}
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    after(epoch, lambda: state(net, optimizer))
done()
'''

WORKLOADS: dict[str, tuple[int, str]] = {
    "tiny-epoch CNN": (60, TRAIN.format(
        model="net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), "
        "nn.Linear(32 * 576, 10))\noptimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)",
        steps=8, data="randn(32, 1, 28, 28)", loss="nn.functional.cross_entropy(net(x), torch.arange(32) % 10)",
    )),
    "transformer of 50 M, AdamW": (5, TRAIN.format(
        model="layers = [nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, dropout=0.0) for _ in range(15)]\n"
        "net = nn.Sequential(nn.Embedding(6000, 512), *layers)\noptimizer = torch.optim.AdamW(net.parameters(), 1e-4)",
        steps=16, data="randint(0, 6000, (2, 64))", loss="net(x).square().mean()",
    )),
    "30,000 objects": (15, TRAIN.format(
        model="class Node:\n    def __init__(self, n):\n        self.name, self.count, self.link = str(n), 0.5, None\n"
        "nodes = [Node(n) for n in range(15_000)]\nfor a, b in zip(nodes, nodes[1:]): a.link = b\n"
        "net = nn.Sequential(*[nn.Linear(32, 32) for _ in range(40)])\noptimizer = torch.optim.Adam(net.parameters())",
        steps=60, data="randn(16, 32)", loss="net(x).square().mean()",
    )),
    "frozen backbone": (15, TRAIN.format(
        model="frozen = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(20)]).requires_grad_(False)\nhead = nn.Linear(1024, 10)\n"
        "net = nn.Sequential(frozen, head)\noptimizer = torch.optim.Adam(head.parameters())",
        steps=30, data="randn(32, 1024)", loss="net(x).square().mean()",
    )),
    "NumPy only": (40, '''
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(20_000, 64)), rng.normal(size=(20_000, 1))
w1, w2 = rng.normal(size=(64, 256)) * 0.1, rng.normal(size=(256, 1)) * 0.1
for epoch in range(epochs):
    for start in range(0, 20_000, 500):
        h = np.tanh(X[start:start + 500] @ w1)
        error = h @ w2 - Y[start:start + 500]
        w1 -= 0.01 * X[start:start + 500].T @ ((error @ w2.T) * (1 - h * h)) / 500
        w2 -= 0.01 * h.T @ error / 500
    after(epoch, lambda: {"w1": w1, "w2": w2, "X": X, "Y": Y})
done()
'''),
    "pure Python loops": (20, '''
import random
random.seed(0)
table = {n: random.random() for n in range(5000)}
for epoch in range(epochs):
    for step in range(300):
        total = 0.0
        for key in range(400):
            total += table[key * 7 % 5000] * 0.5
        table[step] = total % 1.0
    after(epoch, lambda: table)
done()
'''),
}  # fmt: skip

VARIANTS = ("plain", "record", "record --every 1", "torch.save", "async_save")
NEEDS_TORCH = ("torch.save", "async_save")


def run_once(folder: Path, workload: str, variant: str, scale: float) -> dict[str, Any]:
    """Run one variant of one workload; seconds, bytes, and what the recording says of itself."""
    fresh(folder)
    epochs, body = WORKLOADS[workload]
    (folder / "train.py").write_text(HEAD + body)
    mode = variant if variant in NEEDS_TORCH else "none"
    words = ["train.py", mode, str(max(2, round(epochs * scale)))]
    if variant.startswith("record"):
        words = ["-m", "flor_trace", *variant.split(), "-q", *words]
    ran = run(folder, *words)
    if ran.status:
        return {"failed": [ran.last_words]}
    _, seconds, saving = ran.stdout.decode().split()[-3:]
    found: dict[str, Any] = {"whole": ran.seconds, "seconds": float(seconds), "memory": ran.memory}
    if mode != "none":
        found["stall"] = float(saving)
        found["bytes"] = sum(file.stat().st_size for file in folder.rglob("saved-*/*")) + sum(
            file.stat().st_size for file in folder.glob("saved-*.pt")
        )
        found["snapshots"] = found["boundaries"] = int(words[-1])
    if variant.startswith("record"):
        found.update(of_recording(folder / ".flor"))
    return found


def bench(results: Path, rounds: int, scale: float, only: str | None) -> dict[str, Any]:
    """All rounds that are not in the results yet; what is there was measured in the same way or is not used."""
    setting = {"scale": scale, "version": 1}
    kept: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    if kept.get("setting") != setting:
        kept = {"setting": setting, "runs": {}}
    kept["machine"] = machine()
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for workload in WORKLOADS:
                if only is not None and only not in workload:
                    continue
                torch_too = "import torch" in WORKLOADS[workload][1]
                variants = [variant for variant in VARIANTS if torch_too or variant not in NEEDS_TORCH]
                random.shuffle(variants)
                for variant in variants:
                    key = f"{workload} | {variant} | {number}"
                    if key not in kept["runs"]:
                        kept["runs"][key] = run_once(Path(temporary) / "run", workload, variant, scale)
                        results.write_text(json.dumps(kept, indent=1))
                        print(key, {k: round(v, 3) if isinstance(v, float) else v for k, v in kept["runs"][key].items()}, flush=True)
    return kept


def table(kept: dict[str, Any]) -> str:
    """The results as Markdown."""
    about = kept["machine"]
    lines = [
        f"Measured {about['date']} by `scripts/bench record` on {about['cores']} cores ({about['cpu']}), {about['memory'] >> 30} GiB, "
        f"Linux {about['kernel']}, Python {about['python']}, torch {about['torch']}, one thread; load average at the "
        f"last start {about['load']}.",
        "*Time* is that of the whole process over that of the plain run of the same round: median [lowest to highest]. *Stall* is what the "
        "training thread itself counted, as a share of its time (for the others: what the saving call took). *Memory* is the peak of the "
        "training process, staging slots included.",
        "",
        "| workload | variant | rounds | time | stall | stall per snapshot | snapshots / boundaries | bytes per snapshot | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for workload in WORKLOADS:
        by_variant = {variant: _runs_of(kept, workload, variant) for variant in VARIANTS}
        for variant, runs in by_variant.items():
            if runs:
                lines.append(_row(workload, variant, runs, by_variant["plain"]))
    return "\n".join(lines) + "\n"


def _runs_of(kept: dict[str, Any], workload: str, variant: str) -> dict[int, dict[str, Any]]:
    found = {}
    for key, result in kept["runs"].items():
        *which, number = key.split(" | ")
        if which == [workload, variant]:
            found[int(number)] = result
    return found


def _row(workload: str, variant: str, runs: dict[int, dict[str, Any]], plain: dict[int, dict[str, Any]]) -> str:
    good = {number: run for number, run in runs.items() if "failed" not in run}
    if not good:
        return f"| {workload} | {variant} | 0 | does not run: {next(iter(runs.values()))['failed']} | | | | | |"
    memory = f"{statistics.median(run['memory'] for run in good.values()) / 1e6:.0f} MB"
    if variant == "plain":
        seconds = statistics.median(run["whole"] for run in good.values())
        return f"| {workload} | plain | {len(good)} | 1 ({seconds:.1f} s) | | | | | {memory} |"
    ratios = sorted(run["whole"] / plain[number]["whole"] for number, run in good.items() if number in plain)
    spread = f"{statistics.median(ratios):.3f} [{ratios[0]:.3f} to {ratios[-1]:.3f}]" if ratios else "-"
    stall = statistics.median(run["stall"] / run["seconds"] for run in good.values())
    each = statistics.median(run.get("median_stall", run["stall"] / max(run["snapshots"], 1)) for run in good.values())
    size = statistics.median(run["bytes"] / max(run["snapshots"], 1) for run in good.values())
    some = good[min(good)]
    return (
        f"| {workload} | {variant} | {len(good)} | {spread} | {100 * stall:.2f} % | {1000 * each:.1f} ms | {some['snapshots']} / "
        f"{some['boundaries']} | {size / 1e6:.3g} MB | {memory} |"
    )


SECTION = "scripts/bench record"


def write(page: Path, text: str) -> None:
    """Put the table into its section of a page, which keeps its other sections."""
    write_section(page, SECTION, f"## What recording costs\n\n{text}")
