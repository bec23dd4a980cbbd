//! The state seam on Redis.
