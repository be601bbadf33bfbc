"""How often the 95 % intervals of `ladder fit` contain the true parameters: `python tools/coverage.py [LAW ...]`.

For every law that can be simulated from published constants, with few runs (resampled residuals) and with more
(resampled runs). One row for each parameter: coverage of the default interval and of the percentile interval.
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
    n_outside = 0
    for law in args.laws or coverage_study.truths():
        for n in args.runs:
            start = time.process_time()
            result = coverage_study.study(law, n, args.simulations, args.resamples, args.seed, args.method)
            seconds = time.process_time() - start
            converged = f"{result.converged:.2%} converged; {seconds:.0f} CPU s"
            print(f"{law} ({result.who}), {n} runs, {result.method}: {converged}")
            for name, coverage in result.default.items():
                outside = not coverage_study.GOOD[0] <= coverage <= coverage_study.GOOD[1]
                n_outside += outside
                notes = "  OUTSIDE" * outside + (f"  weak: {result.weak[name]}" if name in result.weak else "")
                print(f"  {name:8} default {coverage:.1%}, percentile {result.percentile[name]:.1%}{notes}", flush=True)
    print(f"{n_outside} parameters outside {coverage_study.GOOD[0]:.0%} to {coverage_study.GOOD[1]:.0%}")
    return n_outside > 0


if __name__ == "__main__":
    raise SystemExit(main())
