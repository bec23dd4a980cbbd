//! How many slots and how much memory a worker should have.
