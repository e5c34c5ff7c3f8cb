"""The hardest test examples as pictures, with the answers of every timestep and of the teacher."""

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import groupby

import numpy as np
from matplotlib.image import imsave

SHOWN = 12
# The colours of an event camera's two polarities, on black.
POLARITIES = np.array([[255, 143, 77], [92, 179, 240]])


def hardest_examples(
    images: np.ndarray,
    predicted: np.ndarray,
    labels: np.ndarray,
    teacher: np.ndarray | None,
    classes: Sequence[str],
) -> str:
    """A grid of pictures as HTML, with a caption above.

    Args:
        images: [n, H, W, C] uint8; C = 1 is grey, 2 the polarities of events, 3 RGB; of more, the first three.
        predicted: [T, n] predicted classes.
        labels: [n].
        teacher: [n] classes predicted by the teacher.
        classes: names.
    """
    cards = []
    for k, (image, label) in enumerate(zip(images[:SHOWN], labels, strict=False)):
        answers = [_answer(span, guess, label, classes) for span, guess in _spans(predicted[:, k])]
        if teacher is not None:
            answers.append(_answer("teacher", teacher[k], label, classes))
        cards.append(
            f'<li><img src="{_data_url(image)}" alt="">'
            f"<div><b>{escape(classes[label])}</b><ul>{''.join(answers)}</ul></div></li>"
        )
    how_to_read = "Bold: the label. Below: the answer of each timestep alone, right (✓) or wrong (✗)"
    how_to_read += "." if teacher is None else ", and the teacher’s."
    return f'<p class="muted">{how_to_read}</p><ol class="examples">{"".join(cards)}</ol>'


def _spans(guesses: np.ndarray) -> list[tuple[str, int]]:
    """Consecutive timesteps with the same answer, `[T]` -> ("1–3", class), …"""
    spans, start = [], 1
    for guess, same in groupby(guesses.tolist()):
        end = start + len(list(same)) - 1
        spans.append((f"{start}" if start == end else f"{start}–{end}", guess))
        start = end + 1
    return spans


def _answer(who: str, guess: int, label: int, classes: Sequence[str]) -> str:
    kind, mark = ("right", "✓") if guess == label else ("wrong", "✗")
    if who == "teacher":
        kind += " teacher"
    return f'<li class="{kind}"><span>{who}</span> {mark} {escape(classes[guess])}</li>'


def _data_url(image: np.ndarray) -> str:
    channels = image.shape[-1]
    if channels == 1:
        image = np.repeat(image, 3, -1)
    elif channels == 2:
        strength = image / max(int(image.max()), 1)
        image = np.clip(strength @ POLARITIES, 0, 255).astype(np.uint8)
    image = image[..., :3]
    out = io.BytesIO()
    imsave(out, np.ascontiguousarray(image), format="png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
