"""Divergences between class scores."""
import torch.nn.functional as F
from torch import Tensor


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(t / T) || softmax(s / T)) over dimension 1, not reduced over the others (Hinton et al., 2015).

    Args:
        student, teacher: (B, K) or (B, K, H, W) logits of K classes; the gradient reaches the student only.
        temperature: T.

    Returns:
        (B,) or (B, H, W).
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher.detach() / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction='none', log_target=True).sum(1) * temperature ** 2
