"""Muon for matrices, AdamW for the rest, in one optimiser that `transformers.Trainer` takes.

`torch.optim.Muon` orthogonalises in bfloat16, which a CPU without bf16 units does slower than the whole forward pass;
this is the same update (Jordan et al. 2024) in fp32. Only the pretraining of the embedded models uses it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration


def orthogonalised(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices to `update` [..., rows, columns], approximately."""
    a, b, c = NEWTON_SCHULZ
    tall = update.shape[-2] > update.shape[-1]
    x = update.mT if tall else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.AdamW):
    """AdamW, except that groups with `matrices=True` take orthogonalised momentum steps of AdamW's size."""

    def __init__(self, model: torch.nn.Module, lr: float, weight_decay: float = 0.01, momentum: float = 0.95):
        matrices, rest = [], []
        for name, parameter in model.named_parameters():
            of_words = "embed" in name or "lm_head" in name
            (matrices if parameter.ndim == 2 and not of_words else rest).append(parameter)
        self.momentum: float
        self.matrices: list[torch.nn.Parameter]
        self.momentum, self.matrices = momentum, matrices
        super().__init__([{"params": rest, "lr": lr}, {"params": matrices, "lr": lr}], betas=(0.9, 0.98),
                         weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; gradients of the matrices are spent here, so that AdamW sees only the others.

        Matrices of one shape are turned together: a GPU would take longer to be told of each than to compute it."""
        lr, decay = self.param_groups[1]["lr"], self.param_groups[1]["weight_decay"]
        alike = defaultdict(list)
        for p in self.matrices:
            if p.grad is not None:
                alike[p.shape].append(p)
        for shape, same in alike.items():
            momenta, grads = [self._momentum(p) for p in same], [p.grad for p in same]
            torch._foreach_lerp_(momenta, grads, 1 - self.momentum)
            update = orthogonalised(torch.stack(torch._foreach_lerp(grads, momenta, self.momentum)))
            torch._foreach_mul_(same, 1 - lr * decay)
            torch._foreach_add_(same, update.unbind(), alpha=-lr * 0.2 * max(shape) ** 0.5)
            for p in same:
                p.grad = None
        return super().step(closure)

    def _momentum(self, p: torch.Tensor) -> torch.Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
            state["step"] = torch.zeros(())  # AdamW looks for it when a checkpoint is loaded
        return state["momentum"]
