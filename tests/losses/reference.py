"""The losses again, an example and a timestep at a time in numpy float64, from the equations alone.

Axes: T timesteps, C classes. Of one example, `s` are the student's logits `[T, C]`, `t` the teacher's `[T,
C]`, and `y` is the label.
"""

import numpy as np


def log_softmax(x):
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def kd(student, target, temperature):
    log_p, log_q = log_softmax(target / temperature), log_softmax(student / temperature)
    return temperature**2 * sum(np.exp(p) * (p - q) for p, q in zip(log_p, log_q, strict=True))


def ce(s, y):
    return np.array([-log_softmax(step)[y] for step in s])


def ela(s, t, y, temperature=3.0, top_k=1, correct_weight=1.0):
    losses = []
    for student, teacher in zip(s, t, strict=True):
        ranking = sorted(range(len(student)), key=lambda c: (-student[c], c))
        competitors = ranking[: ranking.index(y)][:top_k]
        aligned, target = student.copy(), teacher.copy()
        for w in competitors:
            aligned[w] = student[y]
        for c in [y, *competitors]:
            target[c] = min(teacher[k] for k in [y, *competitors])
        losses.append(kd(aligned, target, temperature) * (1.0 if competitors else correct_weight))
    return np.array(losses)


def confidence(step):
    p = np.exp(log_softmax(step))
    return (np.log(len(p)) + (p * np.log(p + 1e-8)).sum()) / np.log(len(p))


def weights(s, score_temperature=1.0, confidence_threshold=0.0):
    timesteps = len(s)
    result = np.zeros((timesteps, timesteps))
    for i in range(timesteps):
        others = [j for j in range(timesteps) if j != i]
        sources = [j for j in others if confidence(s[j]) >= confidence_threshold] or others
        unit = [step / max(np.linalg.norm(step), 1e-12) for step in s]
        scores = {j: confidence(s[j]) * unit[i] @ unit[j] / score_temperature for j in sources}
        total = sum(np.exp(v) for v in scores.values())
        for j in sources:
            result[i, j] = np.exp(scores[j]) / total
    return result


def sta(s, temperature=3.0, score_temperature=1.0, confidence_threshold=0.0):
    if len(s) == 1:
        return np.zeros(1)
    targets = weights(s, score_temperature, confidence_threshold) @ s
    return np.array([kd(step, target, temperature) for step, target in zip(s, targets, strict=True)])


def over_batch(loss, *arrays, **options):
    """`loss` of every example: arrays have the batch second, `[T, B, ...]`, labels first, `[B]`."""
    batch = arrays[0].shape[1]
    examples = [[a[b] if a.ndim == 1 else a[:, b] for a in arrays] for b in range(batch)]
    return np.stack([loss(*example, **options) for example in examples], axis=-1)
