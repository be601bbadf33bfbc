"""Numbers as people write them: 1.3B parameters, 4T tokens."""

import re

from fitting.errors import InputError

SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
# The suffix is a power of ten that is written out, so that "1.3B" is the float nearest to 1300000000.
FORM = re.compile(r"\s*([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([KMBGT])\s*", re.IGNORECASE)


def quantity(text: str) -> float:
    """The number in `text`: "1.3e9", "1.3B" or "70M" (K, M, B or G, T: thousand to trillion).

    Raises InputError if it is not a number.
    """
    try:
        if match := FORM.fullmatch(text):
            return float(f"{match[1]}e{len(str(SUFFIXES[match[2].upper()])) - 1}")
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a number; write it as 1300000000, 1.3e9 or 1.3B") from None
