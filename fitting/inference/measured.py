"""What `ladder study` measured on a user's own runs, read from study.json: above all the noise between seeds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from fitting.errors import InputError
from fitting.tables import reader

NOISE = "noise_between_seeds"  # in study.json, under "measured"


def read(path, name: str, study: str) -> dict:
    """The entry `name` of what a study measured, from its study.json. study: which one, for the message.

    Raises InputError if the file cannot be read or has no such entry.
    """
    try:
        return dict(json.loads(reader.content(path)[1])["measured"][name])
    except InputError:
        raise
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f"{path}: no measured {name.replace('_', ' ')} in it; write it again with ladder study {study}, and look at"
            " its page for why its runs may not determine it"
        ) from None


@dataclass(frozen=True)
class SeedNoise:
    """How much runs differ that differ only in their seed.

    sd: {task: standard deviation of ln bpb, pooled over the sizes}; dof: degrees of freedom of each. sizes: the least
    and the most parameters of the runs; centre: their mean, weighted as in sd. exponent: of the power law in N that the
    noise of the validation loss follows; 0 where its interval holds 0.
    """

    sd: Mapping[str, float]
    dof: Mapping[str, float]
    sizes: tuple[float, float]
    centre: float
    exponent: float = 0.0
    corpora: tuple[str, ...] = field(default=())

    def relative(self, n: np.ndarray) -> np.ndarray:
        """Noise of runs with n parameters over `sd`; beyond the measured sizes as at the nearest of them."""
        return (np.clip(n, *self.sizes) / self.centre) ** self.exponent

    def json(self) -> dict:
        return asdict(self)


def read_noise(path) -> SeedNoise:
    """Read the noise between seeds from study.json of `ladder study noise`. Raises InputError if it is not in it."""
    found = read(path, NOISE, "noise")
    try:
        sd, dof = ({str(task): float(v) for task, v in found[name].items()} for name in ("sd", "dof"))
        least, most = map(float, found["sizes"])
        noise = SeedNoise(sd, dof, (least, most), float(found["centre"]), float(found["exponent"]),
                          tuple(map(str, found["corpora"])))  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); write it again with ladder study noise") from None
    if not all(0 < value < np.inf for value in (*sd.values(), least, most, noise.centre)):
        raise InputError(
            f"{path}: damaged (a noise or size that is not positive); write it again with ladder study noise"
        )
    return noise
