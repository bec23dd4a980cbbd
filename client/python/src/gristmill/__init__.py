"""Gristmill: machine-learning pipelines as durable, distributed work.

```python
import gristmill

with gristmill.Client() as client:
    run = client.submit("pipeline.yaml", params={"trees": 200})
    run.wait(progress=True)
    print(run["quality"].metrics)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gristmill._async.client import AsyncClient
from gristmill._async.run import AsyncRun, AsyncStepResult
from gristmill._sync.client import Client
from gristmill._sync.run import Run, StepResult
from gristmill.errors import (
    ArtifactCorruptError,
    ArtifactMissingError,
    BadInputError,
    BadPipelineError,
    CancelledError,
    Complaint,
    ConflictError,
    DeniedError,
    GristmillError,
    InternalError,
    MissingExtraError,
    NotFoundError,
    OutOfDiskError,
    OutOfMemoryError,
    RunFailedError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
    VersionError,
)
from gristmill.local import Local, local
from gristmill.pipeline import Pipeline
from gristmill.scoring import Scores
from gristmill.worker.tasks import Context, Rejected, TaskError, task

if TYPE_CHECKING:
    from gristmill.messaging.client import QueueClient, Receipt, Submission

__version__ = "0.1.0"
__all__ = [
    "ArtifactCorruptError",
    "ArtifactMissingError",
    "AsyncClient",
    "AsyncRun",
    "AsyncStepResult",
    "BadInputError",
    "BadPipelineError",
    "CancelledError",
    "Client",
    "Complaint",
    "ConflictError",
    "Context",
    "DeniedError",
    "GristmillError",
    "InternalError",
    "Local",
    "MissingExtraError",
    "NotFoundError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "Pipeline",
    "QueueClient",
    "Receipt",
    "Rejected",
    "Run",
    "RunFailedError",
    "Scores",
    "StepResult",
    "Submission",
    "TaskError",
    "TimedOutError",
    "TooLargeError",
    "UnavailableError",
    "VersionError",
    "local",
    "task",
]

_QUEUE = frozenset({"QueueClient", "Receipt", "Submission"})


def __getattr__(name: str) -> Any:
    """What needs the extra `queue` is imported when it is asked for."""
    if name in _QUEUE:
        from gristmill.messaging import client

        return getattr(client, name)
    raise AttributeError(f"module `gristmill` has no attribute `{name}`")
