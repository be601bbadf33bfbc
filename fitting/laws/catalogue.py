"""All laws by name. To add one, add an entry here; `base.Law` says what its fields mean."""

from fitting.laws.annealing import annealed
from fitting.laws.kaplan import B_CRIT, BATCH, KAPLAN, RATE, TRANSFER
from fitting.laws.power_sum import CHINCHILLA, POWERS, TIED
from fitting.laws.repeated_data import REPEATED
from fitting.laws.sigmoid import SIGMOID

POWER_D = next(law for law in POWERS if law.name == "power-d")
ANNEALING = annealed(POWER_D, "annealing"), annealed(CHINCHILLA, "annealing-n")

LAWS = {
    law.name: law
    for law in (CHINCHILLA, TIED, REPEATED, *KAPLAN, *POWERS, *ANNEALING, B_CRIT, BATCH, RATE, TRANSFER, SIGMOID)
}
