"""How long a call takes."""

import statistics
import time

MOST = 50  # Calls.


def median_seconds(run, seconds=1.0, least=1):
    """The median of up to 50 calls, or of those in some time, after one."""
    times = []
    run()  # It may compile.
    while len(times) < least or (len(times) < MOST and sum(times) < seconds):
        since = time.perf_counter()
        run()
        times.append(time.perf_counter() - since)
    return statistics.median(times)
