"""Three ways in which a loss may fall with parameters N and tokens D, each with a floor E:

    sum      L = E + a/N^alpha + b/D^beta                     Hoffmann et al. 2022
    kaplan   L = E + (a/N^(alpha/beta) + b/D)^beta            Kaplan et al. 2020, equation 1.5, with a floor
    product  L = E + a / (N^alpha D^beta)

No measurement within a ladder tells which of them holds beyond it. Given E, alpha and beta each is linear in its
coefficients after a power, which `forecasting.posterior` uses. The formulas are written with operators only, so they
serve NumPy and JAX.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """A form of L(N, D). is_product: one coefficient, a. root_is_beta: the sum of two terms is raised to beta."""

    name: str
    formula: str
    is_product: bool = False
    root_is_beta: bool = False

    def terms(self, N, D, alpha, beta):
        """(u, v, p) of L = E + (a u + b v)^p, or of L = E + a u v (p = 1) for the product."""
        root = beta if self.root_is_beta else 1.0
        return N ** (-alpha / root), D ** (-beta / root), root

    def loss(self, N, D, E, a, b, alpha, beta):
        """L in the unit of E. N and D may have any unit, which a and b then carry."""
        u, v, root = self.terms(N, D, alpha, beta)
        return E + (a * u * v if self.is_product else (a * u + b * v) ** root)


SUM = Form("sum", "L = E + a/N^alpha + b/D^beta")
KAPLAN = Form("kaplan", "L = E + (a/N^(alpha/beta) + b/D)^beta", root_is_beta=True)
PRODUCT = Form("product", "L = E + a/(N^alpha D^beta)", is_product=True)
FORMS = (SUM, KAPLAN, PRODUCT)
