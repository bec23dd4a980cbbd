"""Submitting runs and scoring rows over RabbitMQ."""
