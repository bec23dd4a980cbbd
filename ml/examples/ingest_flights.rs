//! Seconds per stage of reading the flights on one thread.
//!
//! `cargo run --release -p gristmill-ml --example ingest_flights -- data/flights`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gristmill_ml::blob::{FileBlob, SharedBlob};
use gristmill_ml::ingest::{ReadOptions, discover, infer, read_file};
use gristmill_ml::partition::{FinishedPartition, PartitionReader, to_bytes};
use gristmill_ml::profile::Profiler;
use gristmill_ml::sql::{QueryLimits, QueryTable, execute, plan};
use gristmill_protocol::pipeline::steps::Ingest;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "data/flights".to_owned());
    let step: Ingest = serde_json::from_value(serde_json::json!({ "source": format!("{folder}/flights-*.csv.gz") }))?;
    let scratch = std::env::temp_dir().join(format!("ingest-flights-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;

    let begun = Instant::now();
    let files = discover(&step.source.to_vec(), Path::new("."), step.format)?;
    let schema = infer(&files, &step)?;
    println!("{:>8.3} s  find {} files, infer {} columns", seconds(begun), files.len(), schema.columns.len());

    let begun = Instant::now();
    let options = ReadOptions::of(&step)?;
    let mut partitions: Vec<FinishedPartition> = Vec::new();
    let mut profile = Profiler::new(&schema);
    for (index, file) in files.iter().enumerate() {
        let folder = scratch.join(index.to_string());
        std::fs::create_dir_all(&folder)?;
        let mut sink = |partition| {
            partitions.push(partition);
            Ok(())
        };
        let report = read_file(file, &schema, &options, &folder, &mut sink)?;
        profile.merge(&report.profile)?;
    }
    let bytes: u64 = partitions.iter().map(|partition| partition.bytes).sum();
    println!("{:>8.3} s  read, profile and write {} rows into {bytes} bytes", seconds(begun), profile.rows());

    let begun = Instant::now();
    let blobs = partitions
        .iter()
        .map(|partition| Ok(Arc::new(FileBlob::open(&partition.path)?) as SharedBlob))
        .collect::<std::io::Result<Vec<_>>>()?;
    let mut batches = Vec::new();
    for blob in &blobs {
        for batch in PartitionReader::open_all(blob.clone())? {
            batches.push(batch?);
        }
    }
    println!("{:>8.3} s  read the partitions back", seconds(begun));

    let begun = Instant::now();
    let mut profiler = Profiler::new(&schema);
    for batch in &batches {
        profiler.update(batch)?;
    }
    println!("{:>8.3} s  profile alone", seconds(begun));

    let begun = Instant::now();
    to_bytes(&schema, &batches)?;
    println!("{:>8.3} s  write alone", seconds(begun));
    drop(batches);

    let sql = "select month, hour, carrier, origin, dest, distance, dep_delay, arr_delay > 15 as late \
               from flights where arr_delay is not null";
    let begun = Instant::now();
    let planned = plan(sql, &[("flights".to_owned(), schema.clone())])?;
    println!("{:>8.3} s  plan the transform (row by row: {})", seconds(begun), planned.row_by_row);
    let tables = [QueryTable { name: "flights".to_owned(), schema, partitions: blobs }];
    for sql in [sql, "select carrier, origin, dest, avg(arr_delay) d from flights group by 1, 2, 3 order by d desc"] {
        let begun = Instant::now();
        let mut rows = 0;
        let limits = QueryLimits { memory_bytes: 256 << 20, spill_folder: &scratch };
        execute(sql, &tables, limits, &mut |batch| {
            rows += batch.num_rows();
            Ok(())
        })?;
        println!("{:>8.3} s  {rows} rows of `{sql}`", seconds(begun));
    }
    for column in profile.finish().columns {
        let kind = gristmill_ml::table::kind_name(column.kind);
        let (min, max) = (column.min.map(|min| format!("{min:?}")), column.max.map(|max| format!("{max:?}")));
        println!(
            "{:>16} {kind:<9} nulls {:>6} distinct {}{:<6} {} to {} mean {:?}",
            column.name,
            column.nulls,
            if column.approximate { "~" } else { "" },
            column.distinct,
            min.unwrap_or_default(),
            max.unwrap_or_default(),
            column.mean
        );
    }
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}

fn seconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}
