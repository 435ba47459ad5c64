"""What modules do besides what their type says: methods of their own, hooks, and training mode that stays on.

The capture takes the numbers of a module by its type, so that all of these would be lost without a word.
"""

from __future__ import annotations

from inspect import getattr_static

from torch import nn
from torch.nn.modules import module as torch_module

from lmht.gen.capture_values import UnmappedError

__all__ = ["check_hooks", "check_no_global_hooks", "check_own_behaviour"]

_HARMLESS = ("extra_repr", "reset_parameters", "train")
_CALLED = ("__call__", "__getattr__", "__getattribute__")


def check_own_behaviour(module: nn.Module, kind: type[nn.Module]) -> None:
    """Refuse a module that does something else than its type, or base, `kind`.

    Neither its class, nor the module itself, may have methods or properties of its own under a name that `kind` has.

    Raises
    ------
    UnmappedError
        The message names the method, or the hooks.
    """
    check_hooks(module)
    for name in dir(kind):
        if name in _HARMLESS or (name.startswith("__") and name not in _CALLED):
            continue
        original = getattr_static(kind, name)
        if not callable(original) and not isinstance(original, property | classmethod | staticmethod):
            continue
        if name in vars(module) or getattr_static(type(module), name, None) is not original:
            raise UnmappedError(f"it has its own {name} and is not mapped; use {kind.__name__} itself")


def check_hooks(module: nn.Module) -> None:
    """Refuse a module with hooks around its forward pass.

    Raises
    ------
    UnmappedError
    """
    if module._forward_hooks or module._forward_pre_hooks:
        raise UnmappedError("it has hooks, which hardware would not run; remove them")


def check_no_global_hooks() -> None:
    """Refuse hooks that PyTorch runs with every module.

    Raises
    ------
    UnmappedError
    """
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise UnmappedError(
            "global hooks are registered (register_module_forward_hook or register_module_forward_pre_hook), "
            "which hardware would not run; remove them"
        )
