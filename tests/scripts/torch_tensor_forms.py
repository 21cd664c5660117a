"""Tensors of every form, written over in the loop, replaced and made in it, and alive across its iterations.

# quick: outer
"""
import hashlib
import re
import warnings

import torch

warnings.simplefilter("ignore")
torch.manual_seed(0)


class Tagged(torch.Tensor):
    """A plain subclass with an attribute."""


class Pair(torch.Tensor):
    """A shell around two tensors."""

    @staticmethod
    def __new__(cls, a, b):
        return torch.Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype, requires_grad=a.requires_grad)

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __repr__(self):
        return f"Pair({self.a}, {self.b})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        made = []
        for name in "ab":
            inner = torch.utils._pytree.tree_map(lambda t, name=name: getattr(t, name) if isinstance(t, Pair) else t, args)
            made.append(func(*inner, **(kwargs or {})))
        return args[0] if func.__name__.split(".")[0].endswith("_") else cls(*made)


def per_channel(x):
    return torch.quantize_per_channel(x, torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 0, torch.qint8)


def inference():
    with torch.inference_mode():
        return torch.rand(3)


def leaf_with_gradient():
    made = torch.rand(3, requires_grad=True)
    (made * 2).sum().backward()
    return made


MAKE = {
    "channels_last": lambda: torch.rand(1, 2, 2, 2).to(memory_format=torch.channels_last),
    "overlapping": lambda: torch.rand(8).as_strided((3, 3), (2, 1), 1),
    "zero_dim": lambda: torch.rand(()),
    "empty": lambda: torch.empty(0, 3),
    "coo": lambda: torch.sparse_coo_tensor([[0, 0, 1], [1, 1, 2]], torch.rand(3), (3, 4)),
    "csr": lambda: torch.rand(3, 3).to_sparse_csr(),
    "csc": lambda: torch.rand(3, 3).to_sparse_csc(),
    "bsr": lambda: torch.rand(4, 4).to_sparse_bsr((2, 2)),
    "complex": lambda: torch.rand(3, dtype=torch.complex64),
    "conjugate": lambda: torch.rand(3, dtype=torch.complex64).conj(),
    "negative": lambda: torch.rand(3, dtype=torch.complex64).conj().imag,
    "float16": lambda: torch.rand(3).half(),
    "bfloat16": lambda: torch.rand(3).bfloat16(),
    "float8": lambda: torch.rand(3).to(torch.float8_e4m3fn),
    "int8": lambda: torch.randint(9, (3,), dtype=torch.int8),
    "per_tensor": lambda: torch.quantize_per_tensor(torch.rand(2, 3), 0.1, 3, torch.quint8),
    "per_channel": lambda: per_channel(torch.rand(2, 3)),
    "nested": lambda: torch.nested.nested_tensor([torch.rand(2, 2), torch.rand(3, 2)]),
    "jagged": lambda: torch.nested.nested_tensor([torch.rand(2, 2), torch.rand(3, 2)], layout=torch.jagged),
    "tagged": lambda: torch.rand(3).as_subclass(Tagged),
    "pair": lambda: Pair(torch.rand(2), torch.rand(2)),
    "pair_parameter": lambda: torch.nn.Parameter(Pair(torch.rand(2), torch.rand(2))),
    "buffer": lambda: torch.nn.Buffer(torch.rand(2)),
    "meta": lambda: torch.empty(2, 3, device="meta"),
    "inference": inference,
    "mkldnn": lambda: torch.rand(2, 3).to_mkldnn(),
    "graphed": lambda: torch.rand(3, requires_grad=True) * 2,
    "leaf": leaf_with_gradient,
    "storage": lambda: torch.rand(3).untyped_storage(),
    "packed": lambda: torch.nn.utils.rnn.pack_sequence([torch.rand(3, 2), torch.rand(2, 2)]),
}


def shown(value):
    if isinstance(value, torch.UntypedStorage):
        return str(list(value))
    parts = [repr(value), str(type(value))]
    if isinstance(value, torch.Tensor):
        parts.append(str((value.requires_grad, value.is_leaf, value.grad if value.is_leaf else None)))
        if value.layout is torch.strided and not value.is_nested:
            parts.append(str((value.shape, value.stride(), value.is_conj(), value.is_neg())))
    return " ".join(parts)


def digest(table):
    text = re.sub("0x[0-9a-f]+", "", " ".join(f"{name} {shown(value)}" for name, value in table.items()))
    return hashlib.md5(text.encode()).hexdigest()[:8]


written = {name: make() for name, make in MAKE.items()}
replaced = {name: make() for name, make in MAKE.items()}
made = {}
alias = None
for epoch in range(4):
    for name, make in MAKE.items():
        try:
            with torch.no_grad():
                written[name].copy_(make())
        except (RuntimeError, NotImplementedError, AttributeError, ValueError):
            written[name] = make()
        made[f"{name}{epoch % 2}"] = make()
        #+inner print("@@ inner", epoch, name, digest({name: written[name]}), digest({name: replaced[name]}), digest(made))
    if epoch % 2:
        replaced = {name: make() for name, make in MAKE.items()}
        made["tagged1"].note = f"epoch {epoch}"
        alias = (replaced["channels_last"], replaced["csr"], made["nested0"])
    #+outer print("@@ outer", epoch, digest(written), digest(replaced), digest(made), alias and alias[1] is replaced["csr"], torch.rand(1))
    print(epoch, digest(written), digest(replaced), digest(made), torch.rand(1).item())
