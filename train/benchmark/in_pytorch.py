"""The authors' algorithm in plain PyTorch operations, as their program runs it: the peer of the loss, LIF and step.

It is written from the equations, neither tuned nor slowed. Axis legend: T timesteps, B batch, C classes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def synchronised(work: Callable[[], Any]) -> Callable[[], None]:
    """A function that calls `work` and waits for what it started on a GPU."""

    def whole() -> None:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return whole


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Hinton's distillation loss of logits `[N, C]`, a scalar; no gradient for the teacher."""
    target = F.softmax(teacher.detach() / temperature, 1)
    return F.kl_div(F.log_softmax(student / temperature, 1), target, reduction="batchmean") * temperature**2


def error_aware(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """ELA's student and teacher logits `[B, C]` of one timestep."""
    student, teacher = student.clone(), teacher.clone()
    winner = student.argmax(1)
    row = (winner != labels).nonzero(as_tuple=True)[0]
    wrong, true = winner[row], labels[row]
    student[row, wrong] = student[row, true]
    lower = torch.minimum(teacher[row, true], teacher[row, wrong])
    teacher[row, true] = teacher[row, wrong] = lower
    return student, teacher


def selective_temporal(student: Tensor, temperature: float) -> Tensor:
    """STA of logits `[T, B, C]`, a scalar."""
    classes = student.shape[-1]
    p = F.softmax(student, -1)
    most = torch.log(torch.tensor(float(classes)))
    confidence = (most + (p * torch.log(p + 1e-8)).sum(-1)) / most  # [T, B]
    unit = F.normalize(student, dim=-1).transpose(0, 1)
    similarity = torch.bmm(unit, unit.transpose(1, 2))  # [B, T, T]
    score = confidence.T[:, None] * similarity
    score = score.masked_fill(torch.eye(len(student), dtype=torch.bool, device=student.device), -torch.inf)
    target = torch.bmm(F.softmax(score, -1), student.transpose(0, 1)).transpose(0, 1)
    return divergence(student.reshape(-1, classes), target.reshape(-1, classes), temperature)


def seal_kd_loss(student: Tensor, teacher: Tensor, labels: Tensor, alpha=0.6, beta=0.15, temperature=3.0) -> Tensor:
    """The paper's loss of student logits `[T, B, C]`, teacher logits `[B, C]` and labels `[B]`, a scalar."""
    timesteps = len(student)
    hard = sum(F.cross_entropy(logits, labels) for logits in student) / timesteps
    aligned = sum(divergence(*error_aware(logits, teacher, labels), temperature) for logits in student) / timesteps
    return hard + alpha * aligned + beta * selective_temporal(student, temperature)


class Spike(torch.autograd.Function):
    """1 where x >= 0; in the backward pass the derivative of a sigmoid of slope 4."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, dy: Tensor) -> Tensor:
        s = torch.sigmoid(4 * ctx.saved_tensors[0])
        return dy * 4 * s * (1 - s)


def lif(currents: Tensor, decay: float = 0.5, threshold: float = 1.0) -> Tensor:
    """Spikes `[T, ...]` with a hard reset to 0."""
    v, spikes = torch.zeros_like(currents[0]), []
    for x in currents:
        h = decay * v + x
        spike = Spike.apply(h - threshold)
        v = (1 - spike) * h
        spikes.append(spike)
    return torch.stack(spikes)
