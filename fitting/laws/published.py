"""Published constants of the laws, with the table or equation that they are from.

Kaplan et al. 2020: nats per token of WebText2 (BPE of 50,257 tokens, context 1,024), N without embeddings, FLOPs
(they print PF-days of 8.64e19 FLOPs). Hoffmann et al. 2022 and Besiroglu et al. 2024: MassiveText, N with embeddings.
"""

from dataclasses import dataclass

import numpy as np

from fitting.errors import InputError
from fitting.laws.catalogue import LAWS

PF_DAY = 8.64e19
MUENNIGHOFF = {"E": np.exp(0.6254804), "A": np.exp(6.255414), "B": np.exp(7.3049974), "alpha": 0.3526596}


@dataclass(frozen=True)
class Published:
    """The parameters that a paper gives for a law of LAWS. name: first author. where: table and equation."""

    name: str
    law: str
    params: dict[str, float]
    where: str

    @property
    def natural(self) -> dict[str, np.ndarray]:
        """Parameters as a fit without resamples has them, {name: [1]}."""
        return {k: np.array([v]) for k, v in self.params.items()}

    def at(self, features: dict) -> np.ndarray:
        """y[n] at features {name: [n]}."""
        return LAWS[self.law].at(self.params, features)

    def json(self, points) -> dict:
        """Ratio of measured losses (loss_points.LossPoints) to those of these constants: median and central 95 %."""
        missing = [name for name in LAWS[self.law].features if name not in points.features]
        if missing:
            raise InputError(f"{points.source}: {self.law} needs {', '.join(missing)}")
        ratio_n = points.y_n / self.at(points.features)
        low, median, high = np.quantile(ratio_n, [0.025, 0.5, 0.975])
        about = {"published": self.name, "law": self.law, "where": self.where, "params": self.params}
        return about | {"n_points": len(points), "ratio": float(median), "ratio_95": [float(low), float(high)]}


PUBLISHED = {
    (p.name, p.law): p
    for p in (
        Published("kaplan", "kaplan-n", {"N_c": 8.8e13, "alpha_N": 0.076}, "Table 5, equations 1.1 and 3.1"),
        Published("kaplan", "kaplan-d", {"D_c": 5.4e13, "alpha_D": 0.095}, "Table 5, equations 1.2 and 3.2"),
        Published("kaplan", "kaplan-c", {"C_c": 1.6e7 * PF_DAY, "alpha_C": 0.057}, "Table 5, equation 3.3"),
        Published("kaplan", "kaplan-cmin", {"C_c": 3.1e8 * PF_DAY, "alpha_C": 0.050}, "Table 5, equation 1.3"),
        Published(
            "kaplan",
            "kaplan-nd",
            {"N_c": 6.4e13, "alpha_N": 0.076, "D_c": 1.8e13, "alpha_D": 0.103},
            "Table 2, equations 1.5 and 4.1",
        ),
        Published(
            "kaplan",
            "kaplan-ns",
            {"N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76},
            "Table 3, equations 1.6 and 5.6",
        ),
        Published("kaplan", "kaplan-bcrit", {"B_star": 2e8, "alpha_B": 0.21}, "equations 1.4 and 5.3 (Table 5: 2.1e8)"),
        Published(
            "hoffmann",
            "chinchilla",
            {
                "E": np.exp(0.5267228),
                "A": np.exp(6.0073404),
                "alpha": 0.33917084,
                "B": np.exp(6.0179186),
                "beta": 0.2849083,
            },
            "approach 3; the unrounded values of its TeX source, as in Besiroglu et al. 2024",
        ),
        Published(
            "besiroglu",
            "chinchilla",
            {"E": 1.8172, "A": 482.01, "alpha": 0.3478, "B": 2085.43, "beta": 0.3658},
            "Table 1 (a fit of least absolute deviations, see fitting/loss_laws/loss_fit.py)",
        ),
        Published(
            "muennighoff",
            "chinchilla-tied",
            MUENNIGHOFF,
            "equation 7: data seen once; the unrounded values of its code",
        ),
        Published(
            "muennighoff",
            "muennighoff",
            MUENNIGHOFF | {"R_D": 15.387756, "R_N": 5.309743},
            "section 5 and equation 7; U_N = 0.051 U_D; the unrounded values of its code",
        ),
        Published("kaplan", "kaplan-lr", {"a": 0.003239, "c": 0.0001395}, "equation D.1"),
    )
}


def find(name: str, law: str) -> Published:
    """The constants of a law by the name of their author. Raises InputError if there are none."""
    if (name, law) not in PUBLISHED:
        known = ", ".join(f"{law} ({who})" for who, law in PUBLISHED)
        raise InputError(f"{name!r} published no {law!r}; published are: {known}", "published")
    return PUBLISHED[name, law]


def with_optimum(name: str, law: str | None = None) -> Published:
    """The constants by which an author's compute-optimal allocation is computed: Kaplan's are those of L(N, S_min) at
    the critical batch size, not of L(N, D), unless another law is named. Raises InputError if there are none."""
    if law:
        constants = find(name, law)
        if not LAWS[law].optimum:
            raise InputError(f"the {law} of {name!r} has no optimum in N and D", "law")
        return constants
    allocating = [p for p in PUBLISHED.values() if LAWS[p.law].optimum]
    of_name = [p for p in allocating if p.name == name]
    if not of_name:
        known = ", ".join(dict.fromkeys(p.name for p in allocating))
        raise InputError(f"{name!r} published no law with an optimum in N and D; known are: {known}", "published")
    return max(of_name, key=lambda p: LAWS[p.law].at_critical_batch)
