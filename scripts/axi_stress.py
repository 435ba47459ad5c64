"""Random AXI4-Lite transactions against the slave, with pauses on all channels, under the protocol's rules.

``python scripts/axi_stress.py --transactions 100000``; a violation or a wrong answer ends it with the seed.
"""

from __future__ import annotations

import argparse
import random
import time

from lmht.rtl.axi_lite import AxiLite
from lmht.rtl.verilog import emit_verilog
from lmht.sim.runner import run_cocotb


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    options = parser.parse_args()
    start = time.perf_counter()
    result = run_cocotb(
        [emit_verilog(AxiLite(), "axi_lite")],
        "axi_lite",
        "lmht.sim.benches.axi_lite",
        parameters={"transactions": options.transactions},
        tests=("random_transactions",),
        seed=options.seed,
    )
    seconds = time.perf_counter() - start
    print(f"{options.transactions} transactions, no violation: seed {result.seed}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
