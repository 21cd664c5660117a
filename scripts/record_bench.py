"""`scripts/bench record`: what recording costs a training, beside what its user would do instead.

Each measurement is a pair: the plain training and a variant of it at the same time, each with all that it starts on a core of its own;
the cores are exchanged from round to round. So both meet the same machine, and a writer in the background competes with the training
that it serves. Ratios are taken within a pair, and their medians told. Results are kept after each pair, so that a bench that was
interrupted goes on where it stopped.

Variants: recorded with the default budget; recorded with `--every 1`; `torch.save` of the same tensors after each epoch;
`torch.distributed.checkpoint.async_save` of these after each epoch; FlorDB, which saves nothing by itself. The default budget gets all
rounds, the others as many as `OTHERS` says.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flordb_peer import flordb_environment, in_repository
from measuring import PYTHON, Ran, Started, at_once, environment, fresh, machine, of_recording, write_section

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

def done(tensors=None):
    if future is not None:
        future.result()
    took = time.perf_counter() - begin
    print("@", took, saving, copying(tensors()) if tensors else 0.0)

def copying(state):  # what any snapshot takes at least: reading all tensors, writing them into memory that is there already
    import torch
    there = [torch.zeros_like(t) for t in state.values()]
    took = []
    for _ in range(7):
        start = time.perf_counter()
        torch._foreach_copy_(there, list(state.values()))
        took.append(time.perf_counter() - start)
    return sorted(took)[3]
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
done(lambda: state(net, optimizer))
'''

WORKLOADS: dict[str, tuple[int, str]] = {
    "tiny-epoch CNN": (250, TRAIN.format(
        model="net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), "
        "nn.Linear(32 * 576, 10))\noptimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)",
        steps=8, data="randn(32, 1, 28, 28)", loss="nn.functional.cross_entropy(net(x), torch.arange(32) % 10)",
    )),
    "transformer of 50 M, AdamW": (4, TRAIN.format(
        model="layers = [nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, dropout=0.0) for _ in range(15)]\n"
        "net = nn.Sequential(nn.Embedding(6000, 512), *layers)\noptimizer = torch.optim.AdamW(net.parameters(), 1e-4)",
        steps=16, data="randint(0, 6000, (2, 64))", loss="net(x).square().mean()",
    )),
    "30,000 objects": (30, TRAIN.format(
        model="class Node:\n    def __init__(self, n):\n        self.name, self.count, self.link = str(n), 0.5, None\n"
        "nodes = [Node(n) for n in range(15_000)]\nfor a, b in zip(nodes, nodes[1:]): a.link = b\n"
        "net = nn.Sequential(*[nn.Linear(32, 32) for _ in range(40)])\noptimizer = torch.optim.Adam(net.parameters())",
        steps=300, data="randn(16, 32)", loss="net(x).square().mean()",
    )),
    "frozen backbone": (25, TRAIN.format(
        model="frozen = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(20)]).requires_grad_(False)\nhead = nn.Linear(1024, 10)\n"
        "net = nn.Sequential(frozen, head)\noptimizer = torch.optim.Adam(head.parameters())",
        steps=30, data="randn(32, 1024)", loss="net(x).square().mean()",
    )),
    "NumPy only": (180, '''
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
    "pure Python loops": (80, '''
import random
random.seed(0)
table = {n: random.random() for n in range(5000)}
for epoch in range(epochs):
    for step in range(150):
        total = 0.0
        for group in range(20):
            for key in range(500):
                total += table[(key * 7 + group) % 5000] * 0.5
        table[step] = total % 1.0
    after(epoch, lambda: table)
done()
'''),
}  # fmt: skip

FLORDB = "FlorDB"
NEEDS_TORCH = ("torch.save", "async_save")
VARIANTS = ("record", "record --every 1", *NEEDS_TORCH, FLORDB)
# Rounds of all variants but the first.
OTHERS = 2


def bench(results: Path, rounds: int, scale: float, only: str | None, flordb: str | None) -> dict[str, Any]:
    """All pairs that are not in the results yet; what is there was measured in the same way or is not used."""
    setting = {"scale": scale, "version": 2}
    kept: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    if kept.get("setting") != setting:
        kept = {"setting": setting, "runs": {}}
    kept["machine"] = machine()
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for workload in WORKLOADS:
                for variant in variants_of(workload, number, flordb):
                    key = f"{workload} | {variant} | {number}"
                    if (only is None or only in workload) and key not in kept["runs"]:
                        kept["runs"][key] = pair(Path(temporary), workload, variant, number, scale, flordb)
                        results.write_text(json.dumps(kept, indent=1))
                        print(key, {k: round(v, 3) if isinstance(v, float) else v for k, v in kept["runs"][key].items()}, flush=True)
    return kept


def variants_of(workload: str, number: int, flordb: str | None) -> list[str]:
    """What is measured of a workload in round `number`."""
    if number >= OTHERS:
        return [VARIANTS[0]]
    torch_too = "import torch" in WORKLOADS[workload][1]
    return [each for each in VARIANTS if (torch_too or each not in NEEDS_TORCH) and (flordb or each != FLORDB)]


def pair(base: Path, workload: str, variant: str, number: int, scale: float, flordb: str | None) -> dict[str, Any]:
    """The plain training and a variant at once; seconds, bytes, and what a recording says of itself."""
    epochs, body = WORKLOADS[workload]
    words = ["train.py", "none", str(max(2, round(epochs * scale)))]
    plain, other = (fresh(base / name) for name in ("plain", "other"))
    for folder in (plain, other):
        (folder / "train.py").write_text(HEAD + body)
    python, env = PYTHON, environment()
    if variant in NEEDS_TORCH:
        words[1] = variant
    elif variant == FLORDB:
        python, env = str(flordb), flordb_environment(str(flordb))
        (other / "train.py").write_text(f"import flordb as flor\nflor.log('script', 'train.py')\n{HEAD}{body}")
        in_repository(other, "train.py", env)
    else:
        words = ["-m", "flor_trace", *variant.split(), "-q", *words]
    cores = sorted(os.sched_getaffinity(0))[:2]
    place = [cores[(number + turn) % 2 % len(cores)] for turn in (0, 1)]
    # The same interpreter on both sides: FlorDB's may have another torch.
    first = Started(plain, (python, "train.py", "none", words[-1]), place[0])
    alone, ran = at_once([first, Started(other, (python, *words), place[1])], env)
    if alone.status or ran.status:
        return {"failed": [(ran if ran.status else alone).last_words]}
    beside = {"plain": alone.seconds, "plain_memory": alone.memory, "copying": _told(alone)[2]}
    return beside | _figures(other, variant, ran, epochs=int(words[-1]))


def _figures(folder: Path, variant: str, ran: Ran, epochs: int) -> dict[str, Any]:
    seconds, saving, _ = _told(ran)
    found: dict[str, Any] = {"whole": ran.seconds, "seconds": seconds, "memory": ran.memory}
    if variant in NEEDS_TORCH:
        saved = [*folder.rglob("saved-*/*"), *folder.glob("saved-*.pt")]
        return {**found, "stall": saving, "bytes": sum(file.stat().st_size for file in saved), "snapshots": epochs, "boundaries": epochs}
    return found if variant == FLORDB else {**found, **of_recording(folder / ".flor")}


def _told(ran: Ran) -> list[float]:
    """What a script says at its end: its seconds, those in which it saved, and those that copying its tensors takes."""
    (line,) = [line for line in ran.stdout.decode().splitlines() if line.startswith("@ ")]
    return [float(word) for word in line.split()[1:]]


def table(kept: dict[str, Any]) -> str:
    """The results as Markdown."""
    about = kept["machine"]
    lines = [
        f"Measured {about['date']} by `scripts/bench record` on {about['cores']} cores ({about['cpu']}), {about['memory'] >> 30} GiB, "
        f"Linux {about['kernel']}, Python {about['python']}, torch {about['torch']}, one thread; load average at the "
        f"last start {about['load']}.",
        "*Time* is that of the whole process over that of the plain run beside it, each on a core of its own: median [lowest to highest]. "
        "*Stall* is what the training thread itself counted, as a share of its time (for the others: what the saving call took). *Copying* "
        "is what the same tensors take to be copied into memory that is there already. *Memory* is the peak of the "
        "training process, staging slots included, beside the plain one's.",
        "",
        "| workload | variant | pairs | time | stall | each snapshot | copying | snapshots / boundaries | bytes per snapshot | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for workload in WORKLOADS:
        for variant in VARIANTS:
            if runs := _runs_of(kept, workload, variant):
                lines.append(_row(workload, variant, runs))
    return "\n".join(lines) + "\n"


def _runs_of(kept: dict[str, Any], workload: str, variant: str) -> list[dict[str, Any]]:
    return [result for key, result in kept["runs"].items() if key.split(" | ")[:2] == [workload, variant]]


def _row(workload: str, variant: str, runs: list[dict[str, Any]]) -> str:
    good = [run for run in runs if "failed" not in run]
    if not good:
        return f"| {workload} | {variant} | 0 | does not run: {runs[0]['failed']} | | | | | | |"

    def middle(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(of(run) for run in good)

    ratios = sorted(run["whole"] / run["plain"] for run in good)
    memory = f"{middle(lambda run: run['memory']) / 1e6:.0f} ({middle(lambda run: run['plain_memory']) / 1e6:.0f}) MB"
    cells = [
        f"{workload} ({middle(lambda run: run['plain']):.0f} s)", variant, str(len(good)),
        f"{statistics.median(ratios):.3f} [{ratios[0]:.3f} to {ratios[-1]:.3f}]",
    ]  # fmt: skip
    if "stall" not in good[0]:
        return _cells([*cells, *[""] * 5, memory])
    copying = middle(lambda run: run["copying"])
    each = middle(lambda run: run.get("median_stall", run["stall"] / max(run["snapshots"], 1)))
    cells += [
        f"{100 * middle(lambda run: run['stall'] / run['seconds']):.2f} %", f"{1000 * each:.1f} ms",
        f"{1000 * copying:.1f} ms" if copying else "",
        f"{good[0]['snapshots']} / {good[0]['boundaries']}",
        f"{middle(lambda run: run['bytes'] / max(run['snapshots'], 1)) / 1e6:.3g} MB", memory,
    ]  # fmt: skip
    return _cells(cells)


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


SECTION = "scripts/bench record"


def write(page: Path, text: str) -> None:
    """Put the table into its section of a page, which keeps its other sections."""
    write_section(page, SECTION, f"## What recording costs\n\n{text}")
