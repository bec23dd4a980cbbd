"""Gristmill: machine-learning pipelines as durable, distributed work."""

from gristmill.worker.tasks import Context, Rejected, TaskError, task
