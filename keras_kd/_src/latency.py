"""How long a call takes."""

import statistics
import time

PASSES = 50
SECONDS = 1.0


def median_seconds(run):
    """The median of up to 50 calls, or of those in a second, after one."""
    times = []
    run()  # It may compile.
    while len(times) < PASSES and sum(times) < SECONDS:
        since = time.perf_counter()
        run()
        times.append(time.perf_counter() - since)
    return statistics.median(times)
