"""How many runs a second are submitted over RabbitMQ, each confirmed: `python tools/enqueue_rate.py [COUNT]`.

The broker is that of GRISTMILL_BROKER. The queue is one of its own, which is removed in the end, so nothing is run.
"""

from __future__ import annotations

import os
import sys
import time

import pika

from gristmill import QueueClient

PIPELINE = "name: nightly\nsteps:\n  a: { noop: {} }\n"
PREFIX = "enqueue-rate"
ROUNDS = 5


def main() -> None:
    """Prints a line for each way, with the best of some rounds and the processor's time of this process."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with QueueClient(prefix=PREFIX, timeout=120) as client:
        client.submit(PIPELINE)
        for per_message in (1, 100):
            rates, seconds = [], []
            for _ in range(ROUNDS):
                began, busy = time.perf_counter(), time.process_time()
                client.submit_many((PIPELINE for _ in range(count)), per_message=per_message)
                rates.append(count / (time.perf_counter() - began))
                seconds.append(time.process_time() - busy)
            shown = ", ".join(f"{rate:,.0f}" for rate in rates)
            print(
                f"{per_message} a message: best {max(rates):,.0f} runs/s of {shown}; {min(seconds):.2f} s of processor"
            )
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["GRISTMILL_BROKER"]))
    connection.channel().queue_delete(f"{PREFIX}.submissions")
    connection.close()


if __name__ == "__main__":
    main()
