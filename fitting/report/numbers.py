"""Numbers as people read them."""


def si(value: float, digits: int = 3) -> str:
    """Rounded to significant digits, with a unit: 1234567 -> "1.23M"; from 1e15 on (FLOPs) "1.23e+18"."""
    if abs(value) < 1e15:
        for scale, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= (1 - 0.5 * 10**-digits) * scale:
                return f"{value / scale:.{digits}g}{unit}"
    return f"{value:.{digits}g}"


def interval(ends, form: str = ".3f") -> str:
    """ "1.000 to 2.000"; "" for None."""
    return "" if ends is None else f"{ends[0]:{form}} to {ends[1]:{form}}"


def yes_no(value: bool | None) -> str:
    """ "yes" or "no"; "" for None."""
    return "" if value is None else "yes" if value else "no"


def optional(value: float | None, form: str = ".3f", unit: str = "") -> str:
    """A number with its unit; "" for None."""
    return "" if value is None else f"{value:{form}}{unit}"
