//! Fits an estimator to numbers in CSV files and prints time and quality, to compare with other libraries
//! on the same files.
//!
//! ```text
//! cargo run --release -p gristmill-learn --example learn_speed -- TRAIN.csv TEST.csv METHOD [THREADS] [JSON]
//! ```
//!
//! Methods are `boost`, `forest` (100 trees) and `kmeans`. The files have a line of names, then numbers (empty: missing); the last column is the number of the class.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use gristmill_learn::boost;
use gristmill_learn::cluster::{KMeans, KMeansSettings};
use gristmill_learn::compiled::Forest;
use gristmill_learn::forest;
use gristmill_learn::matrix::{Layout, Matrix};

/// How often the test rows are scored for a figure.
const SCORINGS: usize = 40;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, method, rest @ ..] = args.as_slice() else {
        return Err("give TRAIN.csv TEST.csv METHOD [THREADS] [JSON]".into());
    };
    let threads = rest.first().map_or(Ok(1), |threads| threads.parse())?;
    let settings = rest.get(1).map_or("{}", String::as_str);
    let (matrix, labels) = read(train, Layout::Columns)?;
    let (test_matrix, test_labels) = read(test, Layout::Rows)?;
    let classes = labels.iter().fold(0.0, |most: f64, &label| most.max(label)) as u32 + 1;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| match method.as_str() {
        "boost" => {
            let mut settings: boost::Settings = serde_json::from_str(settings)?;
            if settings.loss == boost::Loss::Squared {
                settings.loss = if classes == 2 { boost::Loss::Logistic } else { boost::Loss::Softmax { classes } };
            }
            let data = boost::Data { matrix: &matrix, labels: &labels, weights: None };
            let mut fits = Vec::new();
            for _ in 0..3 {
                let start = Clock::new();
                let fitted = boost::fit(&settings, data, None, 1, |_| ControlFlow::Continue(()))?;
                fits.push((start.elapsed(), fitted));
            }
            let (time, fitted) = fits.into_iter().min_by_key(|(time, _)| *time).ok_or("nothing was fitted")?;
            println!("fit {:.3} s", time.as_secs_f64());
            report(&test_matrix, &test_labels, fitted.model.outputs(), |rows| fitted.model.predict(rows));
            println!("size: {}", describe(fitted.model.trees()));
            Ok(())
        }
        "forest" => {
            let settings: forest::Settings = serde_json::from_str(settings)?;
            let start = Clock::new();
            let coded = forest::Coded::new(&matrix, 1)?;
            let grown = forest::grow(&coded, &labels, None, &settings, 0..100, 1, || true)?;
            println!("fit {:.3} s", start.elapsed().as_secs_f64());
            report(&test_matrix, &test_labels, 1, |rows| grown.forest.predict(rows));
            println!("size: {}", describe(&[grown.forest]));
            Ok(())
        }
        "kmeans" => {
            let settings: KMeansSettings = serde_json::from_str(settings)?;
            let mut rows = Matrix::zeros(matrix.rows(), matrix.columns(), Layout::Rows);
            for column in 0..matrix.columns() {
                (0..matrix.rows()).for_each(|row| rows.set(row, column, f64::from(matrix.get(row, column))));
            }
            let start = Clock::new();
            let grouped = KMeans::fit(&settings, &rows, 1)?;
            println!("fit {:.3} s", start.elapsed().as_secs_f64());
            println!("inertia {}", grouped.inertia);
            Ok(())
        }
        _ => Err(format!("there is no method `{method}`").into()),
    })
}

fn read(path: &str, layout: Layout) -> Result<(Matrix<f32>, Vec<f64>), Box<dyn Error + Send + Sync>> {
    let text = fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let columns = lines.first().ok_or("the file has no rows")?.split(',').count() - 1;
    let mut matrix = Matrix::zeros(lines.len(), columns, layout);
    let mut labels = Vec::with_capacity(lines.len());
    for (row, line) in lines.iter().enumerate() {
        let numbers: Vec<&str> = line.split(',').collect();
        for (column, text) in numbers[..columns].iter().enumerate() {
            matrix.set(row, column, if text.is_empty() { f32::NAN } else { text.parse()? });
        }
        labels.push(numbers[columns].parse()?);
    }
    Ok((matrix, labels))
}

fn describe(forests: &[Forest]) -> String {
    let (trees, nodes): (usize, usize) =
        forests.iter().fold((0, 0), |(trees, nodes), forest| (trees + forest.trees(), nodes + forest.nodes()));
    format!("{trees} trees, {nodes} nodes")
}

fn report(rows: &Matrix<f32>, labels: &[f64], outputs: usize, predict: impl Fn(&Matrix<f32>) -> Vec<f64>) {
    let scores = predict(rows);
    // Many times: the system adds up a thread's time in steps of some milliseconds.
    let start = Clock::new();
    (0..SCORINGS).for_each(|_| drop(std::hint::black_box(predict(rows))));
    println!("score {:.0} rows/s", (SCORINGS * rows.rows()) as f64 / start.elapsed().as_secs_f64());
    let singles: Vec<Matrix<f32>> = (0..rows.rows().min(5_000))
        .map(|row| {
            let mut single = Matrix::zeros(1, rows.columns(), Layout::Rows);
            (0..rows.columns()).for_each(|column| single.set(0, column, rows.get(row, column)));
            single
        })
        .collect();
    let mut times: Vec<f64> = singles
        .iter()
        .map(|single| {
            let start = Instant::now();
            std::hint::black_box(predict(single));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("one row p50 {:.2} us, p99 {:.2} us", times[times.len() / 2], times[times.len() * 99 / 100]);
    let probability = |row: usize, class: usize| match outputs {
        1 if class == 0 => 1.0 - scores[row],
        1 => scores[row],
        _ => scores[row * outputs + class],
    };
    let loss = (0..labels.len()).map(|row| -probability(row, labels[row] as usize).max(1e-15).ln()).sum::<f64>();
    let most_likely = |row: usize| {
        (0..outputs.max(2)).max_by(|&a, &b| probability(row, a).total_cmp(&probability(row, b))).unwrap_or(0)
    };
    let right = (0..labels.len()).filter(|&row| most_likely(row) == labels[row] as usize).count();
    print!("logloss {:.5} accuracy {:.5}", loss / labels.len() as f64, right as f64 / labels.len() as f64);
    if outputs == 1 {
        print!(" AUC {:.5}", auc(&scores, labels));
    }
    println!();
}

/// Time since some start: of this thread on its processor where the system tells (Linux), so that other
/// programs don't disturb the figures of one thread; else of the clock.
struct Clock {
    start: Instant,
    thread: Option<u64>,
}

impl Clock {
    fn new() -> Clock {
        Clock { start: Instant::now(), thread: Clock::thread_ns() }
    }

    fn elapsed(&self) -> Duration {
        match (self.thread, Clock::thread_ns()) {
            (Some(start), Some(now)) if rayon::current_num_threads() == 1 => Duration::from_nanos(now - start),
            _ => self.start.elapsed(),
        }
    }

    fn thread_ns() -> Option<u64> {
        fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
    }
}

/// The area under the ROC curve, from ranks.
fn auc(scores: &[f64], labels: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut rank_sum, mut at) = (0.0, 0);
    while at < order.len() {
        let end = at + order[at..].iter().take_while(|&&row| scores[row] == scores[order[at]]).count();
        let rank = (at + 1 + end) as f64 / 2.0;
        rank_sum += rank * order[at..end].iter().filter(|&&row| labels[row] == 1.0).count() as f64;
        at = end;
    }
    let positive = labels.iter().filter(|&&label| label == 1.0).count() as f64;
    (rank_sum - positive * (positive + 1.0) / 2.0) / (positive * (labels.len() as f64 - positive))
}
