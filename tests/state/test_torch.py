"""Rules for tensors, storages, optimizers and their random numbers."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
from state.world import World

from flor_trace.errors import NotRestorable

torch = pytest.importorskip("torch")


def net() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.ReLU(), torch.nn.Linear(6, 2))


def train(v: dict[str, Any]) -> None:
    v["opt"].zero_grad()
    v["loss"] = v["net"](v["X"]).square().mean()
    v["loss"].backward()
    v["opt"].step()
    if "sched" in v:
        v["sched"].step()
    v["losses"].append(v["loss"].item())


def world(make: Any, **more: Any) -> World:
    model = net()
    opt = make(model.parameters())
    torch.manual_seed(1)
    return World(net=model, opt=opt, X=torch.randn(8, 4), losses=[], **more)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1),
    "adam_fused": lambda p: torch.optim.Adam(p, 0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_for_bit_after_a_jump(name: str) -> None:
    if name == "adam_fused" and torch.__version__ < "2.3":
        pytest.skip("this torch has fused optimizers for CUDA only")
    first, second = world(OPTIMIZERS[name]), world(OPTIMIZERS[name])
    for w in (first, second):
        w.v["sched"] = torch.optim.lr_scheduler.CosineAnnealingLR(w.v["opt"], 5)
    entry = first.snap()
    train(first.v)
    train(first.v)
    target = first.snap()
    second.blobs = first.blobs
    parameters = list(second.v["net"].parameters())
    second.replay(entry, target)
    assert all(a is b for a, b in zip(parameters, second.v["net"].parameters(), strict=True))
    assert all(a is b for a, b in zip(parameters, second.v["opt"].param_groups[0]["params"], strict=True))
    assert set(second.v["opt"].state) == set(parameters)
    train(first.v)
    train(second.v)
    assert first.v["losses"] == second.v["losses"]
    assert torch.equal(torch.rand(3), torch.rand(3)) is False


def test_the_copy_of_a_model_is_not_written_into_the_model() -> None:
    w = world(OPTIMIZERS["sgd"])
    w.v["best"] = w.v["net"]
    entry = w.snap()
    start = copy.deepcopy(w.v["net"].state_dict())
    train(w.v)
    w.v["best"] = copy.deepcopy(w.v["net"])
    train(w.v)
    target = w.snap()
    best, now = w.v["best"].state_dict(), copy.deepcopy(w.v["net"].state_dict())
    other = world(OPTIMIZERS["sgd"])
    other.v["best"] = other.v["net"]
    other.blobs = w.blobs
    other.v["net"].load_state_dict(start)
    other.replay(entry, target)
    assert other.v["best"] is not other.v["net"]
    for key in best:
        assert torch.equal(other.v["best"].state_dict()[key], best[key])
        assert torch.equal(other.v["net"].state_dict()[key], now[key])


def test_a_view_rebound_to_a_product_does_not_overwrite_its_base() -> None:
    X = torch.arange(20.0).reshape(10, 2)
    w = World(X=X, xb=X[:4])
    entry = w.snap()
    w.v["xb"] = X[:4] * 2
    target = w.snap()
    w.v["xb"] = X[:4]
    w.replay(entry, target)
    assert w.v["X"] is X and torch.equal(X, torch.arange(20.0).reshape(10, 2))
    assert torch.equal(w.v["xb"], X[:4] * 2)
    assert w.v["xb"].untyped_storage().data_ptr() != X.untyped_storage().data_ptr()


def test_shared_storages_strides_and_arrays_stay_shared() -> None:
    w = World(a=None)
    entry = w.snap()
    base = torch.arange(12.0).reshape(3, 4)
    w.v.update(base=base, t=base.t(), row=base[1], array=base.numpy()[:, 1:3])
    w.v["last"] = torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last)
    w.v["last"].fill_(2)
    target = w.snap()
    for name in ("base", "t", "row", "array", "last"):
        del w.v[name]
    w.replay(entry, target)
    v = w.v
    v["base"][1, 1] = 99
    assert v["t"][1, 1] == 99 and v["row"][1] == 99 and v["array"][1, 0] == 99 and v["t"].stride() == (1, 4)
    assert v["last"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("beside", [0, 4, 16, 48])
def test_memory_lies_within_a_line_of_the_cache_as_it_did(beside: int) -> None:
    """`torch.mv` adds up in an order that depends on it."""
    torch.manual_seed(2)
    values, vector = torch.randn(67, 129), torch.randn(129)
    w = World(vector=vector)
    entry = w.snap()
    memory = bytearray(values.nbytes + 128)
    offset = (beside - torch.frombuffer(memory, dtype=torch.uint8).data_ptr()) % 64
    w.v["matrix"] = torch.frombuffer(memory, dtype=torch.float32, count=values.numel(), offset=offset).view(67, 129)
    w.v["matrix"].copy_(values)
    product = torch.mv(w.v["matrix"], vector)
    target = w.snap()
    del w.v["matrix"]
    w.replay(entry, target)
    assert w.v["matrix"].data_ptr() % 64 == beside and w.v["matrix"].untyped_storage().nbytes() == values.nbytes
    assert torch.equal(torch.mv(w.v["matrix"], vector), product)


def test_tied_weights_stay_tied() -> None:
    model = net()
    w = World(net=model, tied=torch.nn.Linear(6, 2))
    entry = w.snap()
    before = w.v["tied"].weight
    w.v["tied"].weight = model[3].weight
    with torch.no_grad():
        model[3].weight.add_(1)
    target = w.snap()
    with torch.no_grad():
        model[3].weight.sub_(1)
        model[3].weight.copy_(torch.tensor(model[3].weight.tolist()))
    w.v["tied"].weight = before
    state = w.compare(entry)
    if state.verdict == "exact":
        w.replay(entry, target)
    else:
        w.replay(w.snap(), target)
    assert w.v["tied"].weight is model[3].weight


def test_a_function_of_torch_is_a_value() -> None:
    w = World(act=torch.relu)
    entry = w.snap()
    w.v["act"] = torch.tanh
    target = w.snap()
    w.v["act"] = torch.relu
    w.replay(entry, target)
    assert w.v["act"] is torch.tanh


def test_a_restored_loss_prints_its_grad_fn_and_refuses_to_run_backward() -> None:
    w = World(p=torch.nn.Parameter(torch.ones(2)))
    entry = w.snap()
    w.v["loss"] = (w.v["p"] * 3).sum()
    target = w.snap()
    shown = repr(w.v["loss"])
    del w.v["loss"]
    w.replay(entry, target)
    assert repr(w.v["loss"]) == shown == "tensor(6., grad_fn=<SumBackward0>)"
    with pytest.raises(NotRestorable, match="SumBackward0"):
        w.v["loss"].backward()


def test_gradients_flags_and_types() -> None:
    w = World(net=net(), x=None)
    w.v["net"][0].weight.grad = torch.ones(6, 4)
    entry = w.snap()
    w.v["net"][0].weight.grad = None
    w.v["net"][3].bias.grad = torch.full((2,), 5.0)
    w.v["net"][1].weight.requires_grad_(False)
    w.v["net"].eval()
    w.v["x"] = [torch.ones(3, dtype=dtype) for dtype in (torch.bfloat16, torch.float16, torch.int8, torch.complex64, torch.bool)]
    w.v["e"] = (torch.empty(0, 3), torch.tensor(2.0), torch.device("cpu"), torch.float32, torch.Size([1, 2]), torch.channels_last)
    target = w.snap()
    w.v["net"][0].weight.grad = torch.ones(6, 4)
    w.v["net"][3].bias.grad = None
    w.v["net"][1].weight.requires_grad_(True)
    w.v["net"].train()
    w.v["x"] = None
    e = w.v.pop("e")
    w.replay(entry, target)
    v = w.v
    assert v["net"][0].weight.grad is None and v["net"][3].bias.grad.tolist() == [5.0, 5.0]
    assert not v["net"][1].weight.requires_grad and not v["net"].training and not v["net"][1].training
    assert [t.dtype for t in v["x"]] == [torch.bfloat16, torch.float16, torch.int8, torch.complex64, torch.bool]
    assert v["e"][0].shape == (0, 3) and v["e"][1] == 2 and v["e"][2:] == e[2:]


def test_sparse_tensors() -> None:
    w = World(s=None)
    entry = w.snap()
    w.v["s"] = torch.eye(3).to_sparse()
    w.v["r"] = torch.eye(3).to_sparse_csr()
    target = w.snap()
    w.v["s"] = None
    del w.v["r"]
    w.replay(entry, target, verify=False)
    assert torch.equal(w.v["s"].to_dense(), torch.eye(3)) and torch.equal(w.v["r"].to_dense(), torch.eye(3))


def test_generators_and_global_random_numbers() -> None:
    g = torch.Generator()
    g.manual_seed(3)
    w = World(g=g)
    entry = w.snap()
    torch.rand(2, generator=g)
    torch.rand(2)
    target = w.snap()
    expected = (torch.rand(2, generator=g), torch.rand(2))
    other = World(g=torch.Generator().manual_seed(3))
    other.blobs = w.blobs
    from flor_trace.state import library

    library.apply(entry.library)
    other.replay(entry, target)
    assert torch.equal(torch.rand(2, generator=other.v["g"]), expected[0]) and torch.equal(torch.rand(2), expected[1])


def test_file_backed_memory_is_never_written(tmp_path: Path) -> None:
    import numpy as np

    path = os.fspath(tmp_path / "data.bin")
    np.arange(6.0).tofile(path)
    w = World(m=np.memmap(path, dtype=np.float64, mode="r+"), t=torch.from_file(path, shared=True, size=6, dtype=torch.float64))
    entry = w.snap()
    w.v["m"][0] = 50
    target = w.snap()
    w.v["m"][0] = 0
    try:
        w.replay(entry, target, verify=False)
    except NotRestorable:
        pass
    assert np.fromfile(path)[0] == 0


def test_a_hook_and_a_swapped_parameter() -> None:
    seen: list[float] = []
    w = World(net=net(), seen=seen)
    entry = w.snap()
    old = w.v["net"][0].weight
    w.v["net"][0].weight = torch.nn.Parameter(torch.full((6, 4), 2.0))
    target = w.snap()
    w.v["net"][0].weight = old
    w.replay(entry, target)
    weight = w.v["net"][0].weight
    assert type(weight) is torch.nn.Parameter and weight is not old and weight.requires_grad and weight[0, 0] == 2


def test_paths_read_as_the_user_writes_them() -> None:
    w = world(OPTIMIZERS["adamw"])
    train(w.v)
    before = w.snap()
    with torch.no_grad():
        w.v["net"][1].running_mean.add_(1)
        next(iter(w.v["opt"].state.values()))["exp_avg"].add_(1)
    found = w.compare(before)
    assert found.verdict == "diverged"
    assert {d.path for d in found.differences} == {
        "user_script.net.1.running_mean", "user_script.opt.state[…]['exp_avg']",
    }  # fmt: skip
    assert found.differences[0].magnitude == pytest.approx(1, abs=1e-5)
