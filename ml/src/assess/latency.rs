//! One row at a time, as an online service would ask: from a row to its prediction, in the process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::AssessError;
use crate::model::Model;

/// Different rows that are asked for in turn: branches and caches see more than one.
const ROWS: usize = 200;
/// Predictions at the most; a median of so many is steady.
const TIMES: usize = 5_000;
/// Time after which it is enough.
const TIME: Duration = Duration::from_millis(500);

/// Microseconds within which half of the predictions came; none without rows.
pub fn row_us(model: &Model, rows: &RecordBatch) -> Result<Option<f64>, AssessError> {
    let single: Vec<RecordBatch> = (0..rows.num_rows().min(ROWS)).map(|row| rows.slice(row, 1)).collect();
    if single.is_empty() {
        return Ok(None);
    }
    for row in &single {
        black_box(model.predict(row)?);
    }
    let began = Instant::now();
    let mut taken: Vec<Duration> = Vec::with_capacity(TIMES);
    for row in single.iter().cycle().take(TIMES) {
        let start = Instant::now();
        black_box(model.predict(black_box(row))?);
        taken.push(start.elapsed());
        if began.elapsed() > TIME {
            break;
        }
    }
    taken.sort_unstable();
    Ok(Some(taken[taken.len() / 2].as_secs_f64() * 1e6))
}
