"""How numbers are written in figures, reports and tables."""

UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


def percent(share: float | None) -> str:
    """A share in [0, 1] in percent; a dash for None.

    >>> percent(0.98765), percent(None)
    ('98.77 %', '–')
    """
    return "–" if share is None else f"{100 * share:.2f} %"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign.

    >>> points(-0.0123)
    '−1.23'
    """
    return f"{100 * difference:+z.2f}".replace("-", "−")


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """Seconds in units that a reader can grasp.

    >>> duration(42), duration(200), duration(7500)
    ('42 s', '3 min 20 s', '2 h 5 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def joules(picojoule: float) -> str:
    """An energy in a unit that gives it few digits.

    >>> joules(5.0), joules(12_345.0), joules(4.6e7)
    ('5 pJ', '12.3 nJ', '46 µJ')
    """
    scale, unit = next(((scale, unit) for scale, unit in UNITS if picojoule >= scale), UNITS[-1])
    return f"{picojoule / scale:.3g} {unit}"
