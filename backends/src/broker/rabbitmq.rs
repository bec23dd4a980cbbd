//! The broker seam on RabbitMQ.
