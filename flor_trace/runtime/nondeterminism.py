"""Torch's operations that may give other bits in another execution, by their names in ATen.

From the documentation of `torch.use_deterministic_algorithms` (2.13) for CUDA; for CPUs from the parallel kernels that add atomically
(`ATen/native/cpu/IndexKernel.cpp`). What runs on one CPU thread is deterministic.
"""

from __future__ import annotations

from typing import Any

ON_CUDA = frozenset((
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward",
    "fractional_max_pool2d_backward", "fractional_max_pool3d_backward", "max_pool3d_with_indices_backward", "max_unpool2d",
    "max_unpool3d", "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward", "_upsample_bilinear2d_aa_backward", "_upsample_bicubic2d_aa_backward",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward", "replication_pad1d_backward",
    "replication_pad2d_backward", "replication_pad3d_backward", "nll_loss2d_forward", "nll_loss2d_backward",
    "_ctc_loss_backward", "_embedding_bag_backward", "_embedding_bag_dense_backward", "put", "put_", "histc", "bincount",
    "kthvalue", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "cumsum", "scatter_add", "scatter_add_",
    "scatter_reduce", "scatter_reduce_", "index_add", "index_add_", "index_copy", "index_copy_", "index_put", "index_put_",
    "_index_put_impl_", "embedding_dense_backward", "_scaled_dot_product_efficient_attention_backward",
    "_scaled_dot_product_flash_attention_backward", "_scaled_dot_product_cudnn_attention_backward", "median.dim",
))  # fmt: skip
CUDNN = frozenset(("convolution", "convolution_backward", "cudnn_convolution", "_cudnn_rnn", "_cudnn_rnn_backward", "miopen_convolution"))
"""Nondeterministic on CUDA unless `torch.backends.cudnn.deterministic` is set, and with `benchmark` in any case."""
ADDING = frozenset(("index_put", "index_put_", "_index_put_impl_", "put", "put_"))
"""On CPUs: in parallel, with `accumulate=True` and single precision, for many elements."""
ATOMIC_ELEMENTS = 32768
"""Torch's grain size: what is smaller is not divided among threads."""


def why_nondeterministic(torch: Any, name: str, overload: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why a call of the operation `aten::name.overload` may give other bits another time, or None.

    Args:
        torch: the module.
        args, kwargs: of the call, as a `TorchDispatchMode` gets them.
    """
    if torch.are_deterministic_algorithms_enabled():
        return None
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    if any(tensor.is_cuda for tensor in tensors):
        cudnn = torch.backends.cudnn
        if name in CUDNN and (cudnn.benchmark or not cudnn.deterministic):
            return f"{name} picks or uses a nondeterministic algorithm of cuDNN; set torch.backends.cudnn.deterministic = True"
        if name in ON_CUDA or f"{name}.{overload}" in ON_CUDA:
            return f"{name} is nondeterministic on CUDA; call torch.use_deterministic_algorithms(True)"
        return None
    accumulates = kwargs.get("accumulate", args[3] if len(args) > 3 else False)
    if name not in ADDING or accumulates is not True or torch.get_num_threads() == 1:
        return None
    values = args[2] if len(args) > 2 else None
    if not isinstance(values, torch.Tensor) or values.dtype is not torch.float32 or values.numel() < ATOMIC_ELEMENTS:
        return None
    return f"{name} adds from several CPU threads in any order; call torch.use_deterministic_algorithms(True)"
