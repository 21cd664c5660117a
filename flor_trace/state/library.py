"""State that lives in libraries: flags, print options, filters, environment, and random numbers' states."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

from . import rng, settings
from .names import find

Plain = Any
_MISSING = ("unset", 0)


def capture() -> dict[str, Plain]:
    """Plain values of every piece of library state whose library is imported."""
    found: dict[str, Plain] = {
        "environ": dict(os.environ),
        "cwd": _cwd(),
        "warnings": _filters(),
        "logging": _levels(),
        "logging.disable": logging.root.manager.disable,
        "recursionlimit": sys.getrecursionlimit(),
    }
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        context = decimal.getcontext()
        found["decimal"] = (context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp)
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "geterr"):
        options = numpy.get_printoptions()
        found["numpy.printoptions"] = {
            key: value for key, value in options.items() if isinstance(value, (int, float, str, bool, type(None)))
        }
        found["numpy.errstate"] = dict(numpy.geterr())
    torch = _whole("torch")
    if torch is not None:
        for name, (get, _) in _torch_settings(torch).items():
            found[f"torch.{name}"] = get()
        options = torch._tensor_str.PRINT_OPTS
        found["torch.printoptions"] = {
            key: getattr(options, key) for key in ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
        }
    found.update(settings.capture())
    found["rng"] = rng.dump()
    return found


def apply(values: dict[str, Plain]) -> None:
    """Set what `capture` returned; random numbers' states come last."""
    if "environ" in values:
        set_environment(values["environ"])
    cwd = values.get("cwd")
    if cwd is not None and cwd != _cwd() and os.path.isdir(cwd):
        os.chdir(cwd)
    if "warnings" in values and values["warnings"] != _filters():
        _set_recorded_filters(values["warnings"])
    _set_levels(values.get("logging", {}))
    if values.get("logging.disable", logging.root.manager.disable) != logging.root.manager.disable:
        logging.disable(values["logging.disable"])
    if "recursionlimit" in values and values["recursionlimit"] != sys.getrecursionlimit():
        sys.setrecursionlimit(values["recursionlimit"])
    decimal = sys.modules.get("decimal")
    if decimal is not None and "decimal" in values:
        context = decimal.getcontext()
        names = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")
        for name, value in zip(names, values["decimal"], strict=True):
            setattr(context, name, value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.errstate" in values:
        numpy.seterr(**values["numpy.errstate"])
        numpy.set_printoptions(**{k: v for k, v in values["numpy.printoptions"].items() if k != "override_repr"})
    torch = _whole("torch")
    if torch is not None:
        for name, (get, put) in _torch_settings(torch).items():
            wanted = values.get(f"torch.{name}", _MISSING)
            if wanted != _MISSING and wanted != get():
                put(wanted)
        for key, value in values.get("torch.printoptions", {}).items():
            setattr(torch._tensor_str.PRINT_OPTS, key, value)
    settings.apply(values)
    rng.load(values.get("rng", {}))


def _whole(name: str) -> Any:
    """The module of this name, if its import has ended: a library may import user code on the way."""
    module = sys.modules.get(name)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _torch_settings(torch: Any) -> dict[str, tuple[Callable[[], Plain], Callable[[Plain], None]]]:
    """The flags of torch as (read, write)."""
    cudnn, backends = torch.backends.cudnn, torch.backends

    def flag(owner: Any, name: str) -> tuple[Callable[[], Plain], Callable[[Plain], None]]:
        return (lambda: getattr(owner, name), lambda value: setattr(owner, name, value))

    settings: dict[str, tuple[Callable[[], Plain], Callable[[Plain], None]]] = {
        "default_dtype": (
            lambda: str(torch.get_default_dtype())[6:],
            lambda value: torch.set_default_dtype(getattr(torch, value)),
        ),
        "grad_mode": (torch.is_grad_enabled, torch._C._set_grad_enabled),
        "num_threads": (torch.get_num_threads, torch.set_num_threads),
        "matmul_precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        "deterministic": (
            lambda: (torch.are_deterministic_algorithms_enabled(),
                     torch.is_deterministic_algorithms_warn_only_enabled()),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        "anomaly": (
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda value: torch.set_anomaly_enabled(*value),
        ),
        "cudnn.benchmark": flag(cudnn, "benchmark"),
        "cudnn.deterministic": flag(cudnn, "deterministic"),
        "cudnn.enabled": flag(cudnn, "enabled"),
        "cudnn.allow_tf32": flag(cudnn, "allow_tf32"),
        "matmul.allow_tf32": flag(backends.cuda.matmul, "allow_tf32"),
        # numbers under which hooks are kept, and those of ragged dimensions, are given out in turn
        "hook_ids": (
            lambda: torch.utils.hooks.RemovableHandle.next_id,
            lambda value: setattr(torch.utils.hooks.RemovableHandle, "next_id", value),
        ),
        "ragged_ids": (_ragged_ids, _set_ragged_ids),
        "optimizers": (lambda: _used_optimizers(torch), lambda value: _patch_optimizers(torch, value)),
        "inference_mode": (torch.is_inference_mode_enabled, lambda value: None),
    }  # fmt: skip
    if hasattr(torch, "get_default_device"):
        settings["default_device"] = (lambda: str(torch.get_default_device()), lambda v: torch.set_default_device(v))
    return settings


def _used_optimizers(torch: Any) -> Plain:
    """The optimizers of torch of which there has been an instance: the first one patches its class."""
    known = vars(torch.optim) if hasattr(torch, "optim") else {}
    return tuple(sorted(name for name, cls in known.items() if hasattr(getattr(cls, "step", None), "hooked")))


def _patch_optimizers(torch: Any, names: Plain) -> None:
    """Do to the classes what instances made in iterations that were jumped over would have done."""
    for name in names:
        cls = getattr(torch.optim, name)
        if not hasattr(cls.step, "hooked"):
            torch.optim.Optimizer._patch_step_function(cls.__new__(cls))


_RAGGED = "torch.nested._internal.nested_tensor"


def _ragged_ids() -> Plain:
    return getattr(sys.modules.get(_RAGGED), "_tensor_id_counter", 0)


def _set_ragged_ids(value: Plain) -> None:
    setattr(importlib.import_module(_RAGGED), "_tensor_id_counter", value)  # noqa: B010 - not in the typed interface


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # the working directory has been removed
        return None


def set_environment(wanted: dict[str, str]) -> None:
    """Let the environment hold these variables, and no others."""
    for key in set(os.environ) - set(wanted):
        del os.environ[key]
    for key, value in wanted.items():
        if os.environ.get(key) != value:
            os.environ[key] = value


def _filters() -> tuple[Plain, ...]:
    def pattern(value: Any) -> Plain:
        return value if value is None or isinstance(value, str) else (value.pattern, value.flags)

    filters: list[Any] = list(warnings.filters)
    return tuple(
        (action, pattern(message), category.__module__, category.__qualname__, pattern(module), line)
        for action, message, category, module, line in filters
    )


def _set_recorded_filters(wanted: tuple[Plain, ...]) -> None:
    def pattern(value: Plain) -> Any:
        return re.compile(*value) if isinstance(value, tuple) else value

    made = [
        (action, pattern(message), find(module_name, qualname), pattern(module), line)
        for action, message, module_name, qualname, module, line in wanted
    ]
    set_filters(made)


def set_filters(filters: list[Any]) -> None:
    """Let the warning filters be these, as the module itself keeps them."""
    warnings.filters[:] = filters  # type: ignore[index]
    # the cache of past decisions must be dropped; its name has changed in 3.14
    for name in ("_filters_mutated", "_filters_mutated_lock_held"):
        if hasattr(warnings, name):
            getattr(warnings, name)()
            break


_DEFAULT_LEVEL = (logging.NOTSET, False, True)


def _loggers() -> dict[str, logging.Logger]:
    found: dict[str, logging.Logger] = {"": logging.root}
    known = list(logging.Logger.manager.loggerDict.items())
    found.update((name, logger) for name, logger in known if isinstance(logger, logging.Logger))
    return found


def _levels() -> dict[str, tuple[int, bool, bool]]:
    """Only what was set: a library imported late adds a logger, which is no difference."""
    levels = {name: (logger.level, logger.disabled, logger.propagate) for name, logger in _loggers().items()}
    return {name: level for name, level in levels.items() if level != _DEFAULT_LEVEL}


def _set_levels(wanted: dict[str, tuple[int, bool, bool]]) -> None:
    present = _loggers()
    for name in wanted:
        present.setdefault(name, logging.getLogger(name))
    for name, logger in present.items():
        level, disabled, propagate = wanted.get(name, _DEFAULT_LEVEL)
        if logger.level != level:
            logger.setLevel(level)
        logger.disabled = disabled
        logger.propagate = propagate
