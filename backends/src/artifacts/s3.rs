//! The artifact seam on S3.
