"""How often the intervals of `ladder fit` hold the truth: `python tools/coverage.py [LAW ...]`.

Every law that published constants can simulate, with few runs (resampled residuals) and with more (resampled runs);
a row for each parameter, with the percentile interval beside the default one.
"""

import argparse
import time

from fitting.loss_laws import coverage_study


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("laws", nargs="*", help="default: all")
    parser.add_argument("--runs", type=int, nargs="+", default=[12, 40])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="auto", choices=("auto", "residuals", "pairs"), help="how to resample")
    args = parser.parse_args()
    outside = 0
    for law in args.laws or coverage_study.truths():
        for n in args.runs:
            began = time.process_time()
            found = coverage_study.study(law, n, args.simulations, args.resamples, args.seed, args.method)
            seconds = time.process_time() - began
            print(
                f"{law} ({found.who}), {n} runs, {found.method}: {found.converged:.2%} converged; {seconds:.0f} CPU s"
            )
            for name, share in found.default.items():
                bad = not coverage_study.GOOD[0] <= share <= coverage_study.GOOD[1]
                outside += bad
                notes = "  OUTSIDE" * bad + (f"  weak: {found.weak[name]}" if name in found.weak else "")
                print(f"  {name:8} default {share:.1%}, percentile {found.percentile[name]:.1%}{notes}", flush=True)
    print(f"{outside} parameters outside {coverage_study.GOOD[0]:.0%} to {coverage_study.GOOD[1]:.0%}")
    return outside > 0


if __name__ == "__main__":
    raise SystemExit(main())
