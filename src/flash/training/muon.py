"""Muon for the matrices of the layers and AdamW for the rest, as one optimizer; both are PyTorch's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

Parameters = list[nn.Parameter]


class MuonWithAdamW(torch.optim.Optimizer):
    """Step ``torch.optim.Muon`` and ``torch.optim.AdamW`` together, each on its own parameters.

    Muon orthogonalises the momentum of a matrix (K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).
    Its updates are scaled to the root mean square of AdamW's (arXiv 2502.16982, section 2.2), so that the two learning
    rates are of one kind, and one weight decay serves both.

    Args:
        matrices: Parameters for Muon, each of two dimensions.
        decayed: Parameters for AdamW with weight decay.
        others: Parameters for AdamW without.
        lr: Learning rate of AdamW, in the first groups of ``param_groups``.
        muon_lr: Learning rate of Muon, in the last group.
        weight_decay: Decay of ``matrices`` and ``decayed``, times the learning rate.
        momentum: Of Muon.
        betas: Of AdamW.
        eps: Of AdamW.
    """

    def __init__(
        self,
        matrices: Parameters,
        decayed: Parameters,
        others: Parameters,
        *,
        lr: float,
        muon_lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._muon = torch.optim.Muon(
            matrices, lr=muon_lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._adamw = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas, eps=eps)
        super().__init__([*decayed, *others, *matrices], {})
        self._share_groups()

    def _share_groups(self) -> None:
        # the very groups of the two, so that a scheduler which sets a learning rate here sets it there; Trainer logs
        # the learning rate of the first
        self.param_groups = [*self._adamw.param_groups, *self._muon.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._muon.step()
        self._adamw.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the states of both."""
        self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()


def hidden_matrices(model: PreTrainedModel) -> set[str]:
    """Name the weights of the linear maps between hidden states: all but embeddings and decoder."""
    decoder = model.get_output_embeddings()
    return {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not decoder
    }
