"""Events from columns x, y, t, p under the names and in the units that people use.

Axis legend: E events of one recording, in the order of time.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from sealkd_jax.data.events.recordings import BadRecording, Events, checked

NAMES = {
    "x": {"x", "xs", "xpos", "x_pos", "x_coordinate", "col", "column"},
    "y": {"y", "ys", "ypos", "y_pos", "y_coordinate", "row"},
    "p": {"p", "ps", "pol", "polarity", "polarities", "on", "sign"},
    "t": {"t", "ts", "time", "times", "timestamp", "timestamps"},
}
"""The names of each column, in lower case. That of time may end in its unit: `t_us`, `time (ms)`, `ts[s]`."""
UNITS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "usec": 1.0, "ms": 1e3, "msec": 1e3, "s": 1e6, "sec": 1e6}  # in µs
LARGEST_SENSOR = 2**14  # pixels of a side
_UNIT = re.compile(rf"(.*?)[ _]*[(\[]?({'|'.join(UNITS)})[)\]]?")


def events_of(where: str, columns: Mapping[str, np.ndarray]) -> Events:
    """Checked events of columns `[E]`, of which others than x, y, t and p are passed over.

    Polarity is 0 and 1, or −1 and 1. Time is in the unit that its name or dtype states; without one, whole numbers
    are microseconds and others seconds. (Frames are the same in any unit.)

    Raises:
        BadRecording: if a column is missing or has other numbers; see also `recordings.checked`.
    """
    found, unit = _find(where, columns)
    lengths = {name: column.shape for name, column in found.items()}
    if len(set(lengths.values())) > 1 or len(lengths["x"]) != 1:
        raise BadRecording(f"{where}: expected columns of one length, got {lengths}")
    for name, column in found.items():
        if column.dtype.kind not in ("biufmM" if name == "t" else "biuf"):
            raise BadRecording(f"{where}: {name}: expected numbers, got {column.dtype}")
    x, y = (_whole(where, name, found[name]) for name in "xy")
    p, t = _polarity(where, found["p"]), _microseconds(where, found["t"], unit)
    return checked(where, Events(x, y, p, t), LARGEST_SENSOR, lambda event: f"row {event}")


def named_columns(where: str, table: np.ndarray) -> dict[str, np.ndarray]:
    """Names for the four columns of `[E, 4]`: polarity and time are known by their values, x comes before y.

    Raises:
        BadRecording: if more than one column, or none, can be the polarity or the time.
    """
    if table.ndim != 2 or 4 not in table.shape:
        raise BadRecording(f"{where}: expected [E, 4], or columns with the names x, y, t, p; got {list(table.shape)}")
    columns = list(table.T if table.shape[1] == 4 else table)
    with np.errstate(invalid="ignore"):
        polar = [n for n, column in enumerate(columns) if set(np.unique(column[:100_000]).tolist()) in _POLARITIES]
        rising = [n for n, column in enumerate(columns) if n not in polar and (column[1:] >= column[:-1]).all()]
    if len(polar) != 1 or len(rising) != 1:
        raise BadRecording(f"{where}: it is unclear which columns are x, y, t and p; save them with these names")
    first, second = (n for n in range(4) if n not in (*polar, *rising))
    return {"x": columns[first], "y": columns[second], "t": columns[rising[0]], "p": columns[polar[0]]}


_POLARITIES = ({0, 1}, {-1, 1}, {0}, {1}, {-1})


def _find(where: str, columns: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float | None]:
    """The columns as x, y, p and t, and the unit of time if its name states it."""
    found, unit = {}, None
    for name, column in columns.items():
        plain = name.strip().lower()
        stated = _UNIT.fullmatch(plain)
        for kind, names in NAMES.items():
            with_unit = kind == "t" and stated is not None and stated[1] in names
            if plain in names or with_unit:
                if kind in found:
                    raise BadRecording(f"{where}: several columns for {kind} among {_listed(columns)}")
                found[kind] = np.asarray(column)
                if with_unit and plain not in names and stated is not None:
                    unit = UNITS[stated[2]]
    if missing := [kind for kind in NAMES if kind not in found]:
        raise BadRecording(f"{where}: no column {', '.join(missing)}; found {_listed(columns)}; expected x, y, t, p")
    return found, unit


def _listed(names: Mapping[str, np.ndarray] | Sequence[str]) -> str:
    return ", ".join(list(names)[:9]) or "none"


def _whole(where: str, name: str, column: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity become integers that differ from them
        whole = column.astype(np.int64)
        wrong = (whole != column) | (whole < 0 if name == "t" else abs(whole) >= 2**31)
    if wrong.any():
        first = int(wrong.argmax())
        raise BadRecording(f"{where}: row {first}: {name} is {column[first]}; expected a whole number")
    return whole


def _polarity(where: str, column: np.ndarray) -> np.ndarray:
    values = set(np.unique(column).tolist())
    if not (values <= {0, 1} or values <= {-1, 1}):
        raise BadRecording(f"{where}: polarities {sorted(values)[:5]}; expected 0 and 1, or -1 and 1")
    return (column > 0).astype(np.int64)


def _microseconds(where: str, column: np.ndarray, unit: float | None) -> np.ndarray:
    """Times as int64 in microseconds; those before 0 are moved, so that the first is 0."""
    if column.dtype.kind in "mM":
        times = (column - column[:1]).astype("timedelta64[us]")
        return times.astype(np.int64)
    if not np.isfinite(column).all():
        raise BadRecording(f"{where}: row {int((~np.isfinite(column)).argmax())}: time is not finite")
    if unit is None:
        unit = 1.0 if column.dtype.kind in "iu" or bool((column == np.floor(column)).all()) else UNITS["s"]
    if column.dtype.kind in "iu" and unit >= 1:
        if len(column) and int(column.max()) * int(unit) >= 2**62:
            raise BadRecording(
                f"{where}: times up to {column.max()}; expected microseconds, or a unit in the name, t_ns"
            )
        times = column.astype(np.int64) * int(unit)
    else:
        with np.errstate(over="ignore"):
            scaled = (column.astype(np.float64) if column.dtype.kind == "f" else column) * unit
        if len(scaled) and abs(scaled).max() >= 2**62:
            raise BadRecording(
                f"{where}: times up to {column.max()}; expected microseconds, or a unit in the name, t_ns"
            )
        times = np.floor(scaled).astype(np.int64)
    return times - min(0, int(times[0])) if len(times) else times
