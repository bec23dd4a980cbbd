//! Groups of rows that lie together, found without labels.

mod dbscan;
mod kmeans;

pub use dbscan::{Dbscan, DbscanSettings, Dense};
pub use kmeans::{Grouped, KMeans, KMeansSettings};
