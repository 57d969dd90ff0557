"""Measures the time of a call."""

import statistics
import time

MOST = 50  # The largest number of calls.


def median_seconds(run, seconds=1.0, least=1):
    """The median time of a call, in seconds.

    Over up to 50 calls within the given time, after a first one that is not
    counted.
    """
    times = []
    run()  # It may compile.
    while len(times) < least or (len(times) < MOST and sum(times) < seconds):
        since = time.perf_counter()
        run()
        times.append(time.perf_counter() - since)
    return statistics.median(times)
