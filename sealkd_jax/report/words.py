"""How numbers are written in sentences and tables."""


def percent(share: float) -> str:
    """A share in [0, 1].

    >>> percent(0.98765)
    '98.77 %'
    """
    return f"{100 * share:.2f} %"


def points(difference: float) -> str:
    """A difference of two shares, in percentage points, with its sign.

    >>> points(-0.0123)
    '−1.23'
    """
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "−")  # + 0.0: no −0.00


def duration(seconds: float) -> str:
    """Seconds as a person would say them.

    >>> duration(42), duration(200), duration(7500)
    ('42 s', '3 min 20 s', '2 h 5 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
