"""Views: tensors over memory that is described, and what tells two of them apart."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotRestorable
from ..graph import Node
from ..memory import ALIGNED_BYTES
from .torch_core import core, dtype_of, quiet, shape_of, storage_of, stride_of

if TYPE_CHECKING:
    from ..restore import Restorer

_element_size = core["element_size"]
_storage_offset = core["storage_offset"]
_is_conj = core["is_conj"]
_is_neg = core["is_neg"]
_is_quantized = core["is_quantized"].__get__
# Not in every version of torch.
_has_names = core.get("has_names")
_names_of = core["names"].__get__ if "names" in core else None
DTYPE_NAMES: dict[Any, str] = {torch.float32: "float32", torch.int64: "int64"}


def name_of(dtype: Any) -> str:
    """A dtype's name, such as `float32`."""
    found = DTYPE_NAMES.get(dtype)
    if found is None:
        found = DTYPE_NAMES[dtype] = str(dtype)[6:]
    return found


def bits_of(obj: Any) -> tuple[bool, bool]:
    """Whether a tensor is read as the conjugate, and whether as the negative, of what is in memory."""
    return (_is_conj(obj), _is_neg(obj))


def dimension_names(obj: Any) -> tuple[str | None, ...] | None:
    """The names of a tensor's dimensions, if it has any."""
    return tuple(_names_of(obj)) if _names_of is not None and _has_names(obj) else None


def quantizer_of(obj: Any) -> tuple[Any, ...] | None:
    """What turns a quantised tensor's integers into numbers."""
    if not _is_quantized(obj):
        return None
    if obj.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return ("tensor", obj.q_scale(), obj.q_zero_point())
    scales, zeros = obj.q_per_channel_scales(), obj.q_per_channel_zero_points()
    return ("channel", obj.q_per_channel_axis(), *(part for t in (scales, zeros) for part in (name_of(t.dtype), *t.tolist())))


def same_view(r: Restorer, obj: Any, node: Node) -> bool:
    """Whether a live tensor already looks where the node says."""
    payload = node[2]
    if tuple(shape_of(obj)) != payload[2] or stride_of(obj) != payload[3] or name_of(dtype_of(obj)) != payload[1]:
        return False
    if bits_of(obj) != payload[7] or quantizer_of(obj) != payload[9]:
        return False
    if payload[11] != dimension_names(obj):
        return False
    storage = storage_of(obj)
    at = _storage_offset(obj) * _element_size(obj)
    if node[3][0] is None:
        return bool((storage.device.type == "meta" or storage.nbytes() == 0) and at == payload[0])
    region = r.resolve(node[3][0])
    return bool(storage.data_ptr() + at == region.address + payload[0])


def view_of(r: Restorer, node: Node) -> Any:
    """A plain tensor over the node's memory."""
    offset, dtype, shape, strides, _, device, _, (conj, neg), _, quantizer, _, names = node[2]
    made = _empty(getattr(torch, dtype), device, shape, quantizer)
    size = made.element_size()
    if node[3][0] is not None:
        region = r.resolve(node[3][0])
        storage, start = storage_over(region)
        made.set_(storage, (region.address + offset - start) // size, shape, strides)
    else:
        extent = offset // size + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1 if 0 not in shape else 0
        new: Any = torch.UntypedStorage
        storage = new(extent * size if device == "meta" else 0, device=device)
        made.set_(storage, offset // size, shape, strides)
    if conj:
        made = torch._conj(made)
    if neg:
        made = torch._neg_view(made)
    return made if names is None else made.rename_(*names)


def _empty(dtype: Any, device: str, shape: tuple[int, ...], quantizer: tuple[Any, ...] | None) -> Any:
    """A tensor that has yet to be pointed at its memory."""
    if quantizer is None:
        return torch.empty(0, dtype=dtype, device=device)
    if quantizer[0] == "tensor":
        affine: Any = torch._empty_affine_quantized
        return affine(shape, scale=quantizer[1], zero_point=quantizer[2], dtype=dtype, device=device)
    values = quantizer[2:]
    half = len(values) // 2
    scales, zeros = (
        torch.tensor(part[1:], dtype=getattr(torch, part[0]), device=device) for part in (values[:half], values[half:])
    )
    channels: Any = torch._empty_per_channel_affine_quantized
    return channels(shape, scales=scales, zero_points=zeros, axis=quantizer[1], dtype=dtype, device=device)


def storage_over(region: Any) -> tuple[Any, int]:
    """A storage that covers a region, and the address at which it begins."""
    owners = [region.owner]
    while owners:
        owner = owners.pop()
        if isinstance(owner, tuple):
            owners.extend(owner)
        elif isinstance(owner, torch.UntypedStorage):
            if owner.data_ptr() <= region.address and owner.nbytes() >= region.nbytes:
                return owner, owner.data_ptr()
        elif isinstance(owner, torch.Tensor):
            storage = owner.untyped_storage()
            return storage, storage.data_ptr()
        else:
            import numpy as np

            if isinstance(owner, np.ndarray) and owner.nbytes >= region.nbytes:
                flat = np.ndarray((region.nbytes,), np.uint8, owner.T if not owner.flags.c_contiguous else owner)
                storage = torch.from_numpy(flat).untyped_storage()
                return storage, storage.data_ptr()
    raise NotRestorable("memory", "a tensor's memory belongs to a library that cannot share it again")


def bytes_of(owner: Any) -> Any:
    """An array of the bytes of a storage or byte tensor, sharing its memory."""
    if isinstance(owner, torch.UntypedStorage):
        with quiet():
            return torch.empty(0, dtype=torch.uint8).set_(owner).numpy()
    return owner.numpy()


def new_memory(nbytes: int, device: str, address: int) -> Any:
    """New memory for a region that tensors look at, as a storage (CPU) or a byte tensor; on the CPU it lies as that at `address` did."""
    beside = address % ALIGNED_BYTES if device == "cpu" and nbytes else 0
    with quiet():
        made = _beside(nbytes, beside) if beside else torch.empty(nbytes, dtype=torch.uint8, device=device)
    return made.untyped_storage() if device == "cpu" else made


def _beside(nbytes: int, beside: int) -> Any:
    """Bytes that begin so far behind a multiple of `ALIGNED_BYTES`, as those of tensors made by `from_numpy` may."""
    buffer = bytearray(nbytes + ALIGNED_BYTES)
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    return torch.frombuffer(buffer, dtype=torch.uint8, count=nbytes, offset=(beside - start) % ALIGNED_BYTES)


