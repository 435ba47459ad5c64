"""Which values of a traced network share memory, so that changing one in place changes the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from lmht.gen.capture_operations import asks_for_size
from lmht.gen.capture_values import UnmappedError

__all__ = ["SharedStorage"]


class SharedStorage:
    """Watches the tensors of a graph while its operations run one by one.

    What an operation returns may be its operand itself or a view of it (identities, dropout in evaluation, reshaping):
    that is seen from the storage, whichever operation it is; what changes in place, from the tensors' version counters.
    """

    def __init__(self) -> None:
        self._groups: dict[fx.Node, set[fx.Node]] = {}
        self._versions: dict[fx.Node, int] = {}

    def before(self, tensors: dict[fx.Node, Any]) -> None:
        """Note the state of all values that are still needed, in front of an operation."""
        self._versions = {
            node: value._version for node, value in tensors.items() if isinstance(value, torch.Tensor)
        }

    def after(self, node: fx.Node, result: Any, tensors: dict[fx.Node, Any]) -> None:
        """Take in the result of an operation.

        Raises
        ------
        UnmappedError
            If it has changed the memory of a value that something else takes, too, earlier or later. (Earlier ones
            have what they need of it, but for training.)
        """
        if isinstance(result, torch.Tensor):
            place = result.untyped_storage().data_ptr()
            shares = (
                other for other in self._versions if tensors[other].untyped_storage().data_ptr() == place
            )
            group = next((self._groups[other] for other in shares), set())
            group.add(node)
            self._groups[node] = group
        for other, version in self._versions.items():
            if tensors[other]._version != version and self._is_used_elsewhere(self._groups[other], node):
                raise UnmappedError(
                    "it changes its operand in place, which is used elsewhere too, perhaps under another name; use a "
                    "plain sum"
                )

    @staticmethod
    def _is_used_elsewhere(group: set[fx.Node], changes: fx.Node) -> bool:
        users = {user for member in group - {changes} for user in member.users} - group
        return any(not asks_for_size(user.op, user.target, user.args) for user in users)
