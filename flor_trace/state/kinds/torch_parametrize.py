"""The classes that `torch.nn.utils.parametrize` makes, one for each module, whose properties are the parametrized tensors."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from ..layout import class_dict, mro

MODULE = "torch.nn.utils.parametrize"


class ParametrizedClasses:
    """See `kinds.MadeClasses`."""

    def parts(self, cls: type) -> tuple[str, ...]:
        """The names of the properties."""
        return tuple([name for name, value in class_dict(cls).items() if type(value) is property])

    def make(self, bases: list[Any], parts: tuple[str, ...]) -> Any:
        """A class like those that `parametrize` makes; None where that would run code of the user's."""
        if len(bases) != 1 or type(bases[0]) is not type or _asks_user(bases[0]):
            return None
        module: Any = object.__new__(bases[0])
        _library()._inject_new_class(module)
        self.change(type(module), parts)
        return type(module)

    def change(self, cls: Any, parts: tuple[str, ...]) -> None:
        """Give a class these properties and no others."""
        present = self.parts(cls)
        for name in present:
            if name not in parts:
                type.__delattr__(cls, name)
        for name in parts:
            if name not in present:
                _library()._inject_property(object.__new__(cls), name)


def _library() -> Any:
    return importlib.import_module(MODULE)


def _asks_user(base: type) -> bool:
    """Whether making a class from `base` calls methods that are not torch's own."""
    for name, of in (("__getattr__", torch.nn.Module), ("__getattribute__", object), ("__init_subclass__", object)):
        owner = next(cls for cls in mro(base) if name in class_dict(cls))
        if owner is not of:
            return True
    return False
