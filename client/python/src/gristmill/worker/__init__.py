"""The worker: takes Python steps of pipelines from a pool's queue and runs each in a child process.

```text
queue ── consumer ──► claim ──► slot ── child process ──► finish
                       (store)     ▲ heartbeat, each second      (store)
```

A message only wakes; the store's claim decides, and an attempt ends in the store. `gristmill-worker module` starts one.
The rules are those of Gristmill's own workers; nothing here decides about retries or order.
"""

from gristmill.worker.tasks import Context, Rejected, TaskError, task

__all__ = ["Context", "Rejected", "TaskError", "task"]
