"""What doctor sees in sources: each rule by a line that breaks it and one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_trace.doctor import static, surroundings
from flor_trace.doctor.findings import Finding, as_text
from flor_trace.doctor.rules import RULES
from flor_trace.doctor.sources import read_module_sources, read_sources
from flor_trace.errors import UsageError

FOUND = {
    "network": "import requests\nrows = requests.get('http://x').json()\n",
    "threads": "from threading import Thread\nThread(target=print).start()\n",
    "processes": "import subprocess as sp\nsp.run(['ls'])\n",
    "distributed": "import torch.distributed as dist\ndist.init_process_group('gloo')\n",
    "entropy": "f = open('/dev/urandom', 'rb')\n",
    "foreign-random": "import cupy\nx = cupy.random.rand(3)\n",
    "standard-input": "lr = float(input('lr? '))\n",
    "signals": "import signal\nsignal.alarm(3)\n",
    "cuda-graphs": "import torch\ng = torch.cuda.CUDAGraph()\n",
    "identity": "print(id(model))\n",
    "hidden-state": "import zlib\nz = zlib.compressobj()\n",
    "user-hash": "class Key:\n    def __hash__(self): return 7\n",
    "finalizers": "class Temp:\n    def __del__(self): print('gone')\n",
    "compiled": "import torch\nmodel = torch.compile(model)\n",
    "library-loop": "from transformers import Trainer\nTrainer(model=m).train()\n",
    "trackers": "import wandb\nwandb.init()\n",
    "unseeded": "import torch\nx = torch.randn(3)\n",
    "persistent-workers": "from torch.utils.data import DataLoader\nd = DataLoader(data, num_workers=2, persistent_workers=True)\n",
    "operations": "import torch\nx = x.to('cuda')\ny.index_add_(0, i, x)\n",
    "package-state": "import lib\nfor i in range(3):\n    lib.config.step = i\n",
    "generator-loop": "def train():\n    for i in range(3):\n        loss.backward()\n        yield loss\n",
}
SILENT = {
    "network": "import requestsx\nrequestsx.get()\n",
    "threads": "import torch\ntorch.set_num_threads(1)\n",
    "processes": "process = Process()\n",
    "standard-input": "def input_(): pass\ninput_()\n",
    "identity": "import uuid\nuuid.uuid4()\n",
    "user-hash": "class Key:\n    def __eq__(self, other): return False\n",
    "finalizers": "class Temp:\n    def close(self): pass\n",
    "compiled": "import re\nre.compile('x')\n",
    "unseeded": "import torch\ntorch.manual_seed(0)\n",
    "persistent-workers": "from torch.utils.data import DataLoader\nd = DataLoader(data, num_workers=0, persistent_workers=False)\n",
    "operations": "import torch\ntorch.use_deterministic_algorithms(True)\nx = x.to('cuda')\ny.index_add_(0, i, x)\n",
    "package-state": "import torch\nfor i in range(3):\n    torch.backends.cudnn.benchmark = True\n",
    "generator-loop": "def batches():\n    for i in range(3):\n        yield i\n",
}


def findings(folder: Path, source: str) -> list[Finding]:
    script = folder / "train.py"
    script.write_text(source)
    return static.examine(*read_sources(str(script)))


@pytest.mark.parametrize("rule", FOUND)
def test_found(tmp_path: Path, rule: str) -> None:
    found = [finding for finding in findings(tmp_path, FOUND[rule]) if finding.rule == rule]
    assert found and str(tmp_path / "train.py") in found[0].where
    assert all((finding.what, finding.effect, finding.advice) for finding in found)


@pytest.mark.parametrize("rule", SILENT)
def test_not_found(tmp_path: Path, rule: str) -> None:
    assert rule not in {finding.rule for finding in findings(tmp_path, SILENT[rule])}


def test_every_rule_is_tried() -> None:
    assert {rule.name for rule in RULES} <= FOUND.keys()


def test_what_is_in_a_branch_is_inexact_perhaps(tmp_path: Path) -> None:
    source = "import torch.distributed as dist\nif ddp:\n    dist.init_process_group()\nx = dist.init_process_group() if ddp else 1\n"
    guarded = "import torch.distributed as dist\nif __name__ == '__main__':\n    dist.init_process_group()\n"
    assert [finding.grade for finding in findings(tmp_path, source) if finding.rule == "distributed"] == ["perhaps"] * 2
    assert [finding.grade for finding in findings(tmp_path, guarded) if finding.rule == "distributed"] == ["inexact"]


def test_operations_on_processors_need_accumulate(tmp_path: Path) -> None:
    lines = "import torch\nx.index_put_((i,), v, accumulate=True)\nx.index_put_((i,), v)\nx.index_add_(0, i, v)\n"
    assert [f.where.rpartition(":")[2] for f in findings(tmp_path, lines) if f.rule == "operations"] == ["2"]


def test_modules_of_the_users_own_are_examined(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from . import data\n")
    (package / "data.py").write_text("import socket, numpy\ns = socket.socket()\n")
    (tmp_path / "train.py").write_text("from package import data\nimport random\n")
    sources, installed = read_sources(str(tmp_path / "train.py"))
    assert sorted(Path(source.path).name for source in sources) == ["__init__.py", "data.py", "train.py"]
    assert "numpy" in installed and "package" not in installed
    assert [finding.rule for finding in static.examine(sources, installed) if finding.rule == "network"] == ["network"]


def test_names_imported_from_a_module_are_no_modules(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("import train\ndef a(): ...\ndef b(): ...\n")
    (tmp_path / "train.py").write_text("from tools import a, b\nimport tools\n")
    sources, _ = read_sources(str(tmp_path / "train.py"))
    assert [Path(source.path).name for source in sources] == ["train.py", "tools.py"]


def test_a_module_is_read_as_python_would_run_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('nothing is imported')\n")
    (package / "train.py").write_text("from . import data\nfrom .data import load\n")
    (package / "__main__.py").write_text("from . import train\n")
    (package / "data.py").write_text("import numpy\ndef load(): ...\n")
    monkeypatch.chdir(tmp_path)
    names = {name: [Path(source.path).name for source in read_module_sources(name)[0]] for name in ("package.train", "package")}
    assert names["package.train"] == ["train.py", "__init__.py", "data.py"]
    assert names["package"][:1] == ["__main__.py"] and {"train.py", "data.py"} < set(names["package"])
    for missing in ("package.missing", "missing"):
        with pytest.raises(UsageError, match=f"no module {missing}"):
            read_module_sources(missing)


def test_the_repositorys_own_scripts_are_exact_as_far_as_is_seen() -> None:
    folder = Path(__file__).resolve().parents[1] / "scripts"
    for name in ("gan.py", "kfold.py", "trainer_callbacks.py", "rl_replay_buffer.py", "checkpoint_reload.py"):
        found = static.examine(*read_sources(str(folder / name)))
        assert not [finding for finding in found if finding.grade == "inexact"], name


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("for\n")
    with pytest.raises(UsageError, match="not valid Python"):
        read_sources(str(tmp_path / "bad.py"))


def test_the_same_finding_in_many_places_is_one_paragraph(tmp_path: Path) -> None:
    text = as_text([f for f in findings(tmp_path, "import socket\n" + "socket.socket()\n" * 9) if f.rule == "network"])
    assert text.count("inexact:") == 1 and "train.py:2" in text and "and 5 more" in text


def test_more_threads_than_processors() -> None:
    found = surroundings.examine(".", {"OMP_NUM_THREADS": "4096"})
    assert [finding.grade for finding in found if finding.rule == "threads"] == ["inexact"]
    assert not [finding for finding in surroundings.examine(".", {"OMP_NUM_THREADS": "1"}) if finding.rule == "threads"]
