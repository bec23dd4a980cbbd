"""Prefect's tasks and flows.

Durable: states of runs are in the server's database (SQLite here, its default; PostgreSQL is advised for production).
A flow's tasks run in the flow's own process or its children: when that dies, the flow has crashed. Background tasks
(`delay`) wait in the server; one that a dead worker had begun stays as it is.
"""

from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from systems import flights, work

# Two processes, as everybody has. Nothing is stored of what tasks return: default, stated because it matters.
PROCESSES = ProcessPoolTaskRunner(max_workers=2)


@task
def noop(index: int) -> int:
    """Nothing."""
    return work.noop(index)


@task
def noop_after(index: int, _before: int) -> int:
    """Nothing, when something has ended."""
    return work.noop(index)


@task
def hop(load: str, done: int) -> int:
    """A step of a chain."""
    return work.hop(load, done)


@task
def total(numbers: list[int]) -> int:
    """Joins a fan-out."""
    return work.total(numbers)


@task
def nap(load: str, index: int, seconds: float) -> int:
    """A task that takes a while."""
    return work.nap(load, index, seconds)


ingest, split, train = task(flights.ingest), task(flights.split), task(flights.train)
validate, score = task(flights.validate), task(flights.score)


@flow(task_runner=PROCESSES)
def batch(tasks: int) -> int:
    """`map` of no-ops."""
    return sum(noop.map(range(tasks)).result())


@flow(task_runner=PROCESSES)
def chain(steps: int, load: str) -> int:
    """Futures as arguments of the next."""
    future = hop.submit(load, 0)
    for _ in range(steps - 1):
        future = hop.submit(load, future)
    return future.result()


@flow(task_runner=PROCESSES)
def fan_out(tasks: int) -> int:
    """One, many, one."""
    return total.submit(noop_after.map(range(tasks), noop.submit(0))).result()


@flow(task_runner=PROCESSES)
def mixed(data: str, folder: str) -> dict[str, float]:
    """The flights."""
    parts = split.submit(ingest.submit(data, folder))
    models = [train.submit(parts, kind) for kind in ("logistic", "forest")]
    return score.submit(validate.submit(models), folder).result()


if __name__ == "__main__":
    # A worker for background tasks; one at a time.
    from prefect.task_worker import serve

    serve(noop, nap, limit=1)
