"""The importance of pathways: normalisation (DistPro, Table 7), pruning, and how a validation loss depends on it."""
from typing import Callable, Dict, List, Optional

import torch
from torch import Tensor


def biased_softmax(importance: Tensor, bias: float = 1.0) -> Tensor:
    """exp(a_p) / (sum_q exp(a_q) + exp(g)): sums to less than 1, so that all pathways together can grow or fade.

    Args:
        importance: a, (P,).
        bias: g.
    """
    constant = importance.new_full((1,), bias)
    return torch.softmax(torch.cat([importance, constant]), 0)[:-1]


def softmax(importance: Tensor, bias: float = 1.0) -> Tensor:
    """exp(a_p) / sum_q exp(a_q); a is (P,), g is not used."""
    return torch.softmax(importance, 0)


def biased_l1(importance: Tensor, bias: float = 1.0) -> Tensor:
    """|a_p| / (||a||_1 + g); a is (P,).

    The paper has a_p / (||a||_1 + g) with a >= 0, which nothing keeps a search from leaving; the authors' code takes |a_p|.
    A negative weight would reward the student for being far from the teacher.
    """
    # |a| with the derivative 1 at 0, where torch's is 0: a pathway that is at 0 could not come back.
    sizes = torch.where(importance < 0, -importance, importance)
    return sizes / (sizes.sum() + bias).clamp(min=torch.finfo(importance.dtype).tiny)


def l1(importance: Tensor, bias: float = 1.0) -> Tensor:
    """|a_p| / ||a||_1, as :func:`biased_l1` with g = 0; a is (P,), g is not used."""
    return biased_l1(importance, 0.0)


def sigmoid(importance: Tensor, bias: float = 1.0) -> Tensor:
    """sigmoid(a_p); a is (P,), g is not used."""
    return torch.sigmoid(importance)


NORMALISATIONS: Dict[str, Callable[..., Tensor]] = dict(
    biased_softmax=biased_softmax, softmax=softmax, biased_l1=biased_l1, l1=l1, sigmoid=sigmoid)
"""From importance a (P,) and the bias g to the weights w (P,) of the pathway losses."""


def live_pathways(importance: Tensor, tau: Optional[float]) -> List[int]:
    """Indices of the pathways that are not pruned: a_p > tau; all if tau is None. Section 3.4."""
    return [index for index, value in enumerate(importance.tolist()) if tau is None or value > tau]


def importance_gradient(importance: Tensor, derivatives: Tensor, normalisation: str, bias: float = 1.0,
                        rate: float = 1.0) -> Tensor:
    """Gradient of the validation loss after one training step with respect to the importance (equations 3 to 5).

    L_train is linear in the weights, so ``dL_val / da_q = -rate * sum_p (dw_p / da_q) * d_p``; for both softmaxes that is
    ``-rate * w_q * (d_q - sum_p w_p d_p)``.

    Args:
        importance: a, (P,).
        derivatives: d, (P,): how each pathway loss changes along the gradient v of the validation loss, at the weights
            before the training step.
        normalisation: one of the names in ``NORMALISATIONS``.
        bias: g.
        rate: xi, the step's learning rate, where ``derivatives`` are not taken along xi * v already.

    Returns:
        (P,).
    """
    with torch.enable_grad():
        importance = importance.detach().requires_grad_()
        weighted = (NORMALISATIONS[normalisation](importance, bias) * derivatives.detach()).sum()
        return -rate * torch.autograd.grad(weighted, importance)[0]
