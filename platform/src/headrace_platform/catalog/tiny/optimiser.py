"""Muon for the matrices inside the layers, AdamW for everything else.

Orthogonalised steps make much of few batches, which is what one core gives. torch's own Muon takes no
stacked experts, so the few lines are here.
"""

from collections.abc import Sequence
from typing import Any

import torch

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_MOMENTUM = 0.95


class Muon:
    """Nesterov momentum, orthogonalised: over the last two dimensions, so stacked experts are stepped alike."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], *, lr: float, weight_decay: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters), "lr": lr}]
        self._weight_decay = weight_decay
        self._momenta = [torch.zeros_like(parameter) for parameter in parameters]

    def step(self) -> None:
        (group,) = self.param_groups
        rate = group["lr"]
        with torch.no_grad():
            for parameter, momentum in zip(group["params"], self._momenta, strict=True):
                momentum.lerp_(parameter.grad, 1 - _MOMENTUM)
                step = _orthogonal(parameter.grad.lerp(momentum, _MOMENTUM))
                rows, columns = parameter.shape[-2:]
                parameter.mul_(1 - rate * self._weight_decay)
                parameter.add_(step, alpha=-rate * max(1.0, rows / columns) ** 0.5)


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
