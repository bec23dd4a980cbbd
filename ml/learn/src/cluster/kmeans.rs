//! K-means: groups around their means.
//!
//! Starts are drawn far apart (k-means++; Arthur and Vassilvitskii 2007), each the best of a few draws, and
//! Lloyd's steps follow (1982). Rows are worked on in chunks of a fixed size whose sums are added in their
//! order, so the result is the same for any number of threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;
use crate::refusal::{Refusal, check_rows};
use crate::splitmix::SplitMix;

/// Rows of a chunk.
const CHUNK_ROWS: usize = 1_024;
/// Groups at the most: a step compares each row with each of them.
pub const GROUPS_MAX: u32 = 10_000;

/// How to group. The defaults are those of scikit-learn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KMeansSettings {
    pub groups: u32,
    /// Starts that are tried; the tightest groups are kept.
    pub starts: u32,
    /// Steps of a start at the most.
    pub steps_max: u32,
    /// It has arrived when the centres move by less: the sum of squares, as a share of the columns' mean
    /// variance.
    pub tolerance: f64,
}

impl Default for KMeansSettings {
    fn default() -> KMeansSettings {
        KMeansSettings { groups: 8, starts: 10, steps_max: 300, tolerance: 1e-4 }
    }
}

/// The centres of the groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "KMeansData", into = "KMeansData")]
pub struct KMeans {
    centres: Vec<Vec<f64>>,
}

#[derive(Serialize, Deserialize)]
struct KMeansData {
    centres: Vec<Vec<f64>>,
}

impl From<KMeans> for KMeansData {
    fn from(model: KMeans) -> KMeansData {
        KMeansData { centres: model.centres }
    }
}

impl TryFrom<KMeansData> for KMeans {
    type Error = String;

    fn try_from(data: KMeansData) -> Result<KMeans, String> {
        let columns = data.centres.first().map_or(0, Vec::len);
        if columns == 0 || data.centres.iter().any(|centre| centre.len() != columns) {
            return Err("the centres of k-means have no or different columns".to_owned());
        }
        if !data.centres.iter().flatten().all(|value| value.is_finite()) {
            return Err("a centre of k-means is not a number".to_owned());
        }
        Ok(KMeans { centres: data.centres })
    }
}

/// A fitted model and how tight it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouped {
    pub model: KMeans,
    /// The sum of the squared distances of all rows to their centres.
    pub inertia: f64,
    /// Steps of the start that was kept.
    pub steps: u32,
}

/// What a pass over the rows sums up.
#[derive(Clone)]
struct Pass {
    sums: Vec<f64>,
    counts: Vec<u64>,
    inertia: f64,
    /// The row that is farthest from its centre.
    farthest: (f64, usize),
}

impl KMeans {
    /// Groups rows laid out in rows.
    pub fn fit(settings: &KMeansSettings, rows: &Matrix<f64>, seed: u64) -> Result<Grouped, Refusal> {
        let refuse = |name, value: f64, wanted| Err(Refusal::Setting { name, value, wanted });
        match settings {
            _ if !(1..=GROUPS_MAX).contains(&settings.groups) => {
                return refuse("groups", f64::from(settings.groups), "1 to 10000");
            }
            _ if settings.starts == 0 => return refuse("starts", 0.0, "1 or more"),
            _ if settings.steps_max == 0 => return refuse("steps_max", 0.0, "1 or more"),
            _ if !(settings.tolerance >= 0.0 && settings.tolerance.is_finite()) => {
                return refuse("tolerance", settings.tolerance, "0 or more");
            }
            _ => {}
        }
        check_rows("k-means", rows, settings.groups as usize, usize::MAX)?;
        let limit = settings.tolerance * mean_variance(rows);
        let mut best: Option<Grouped> = None;
        for start in 0..settings.starts {
            let mut chance = SplitMix::at(seed, u64::from(start));
            let centres = draw_far_apart(rows, settings.groups as usize, &mut chance);
            let grouped = KMeans { centres }.settle(rows, settings.steps_max, limit);
            if best.as_ref().is_none_or(|best| grouped.inertia < best.inertia) {
                best = Some(grouped);
            }
        }
        Ok(best.expect("there is at least one start"))
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.centres[0].len()
    }

    /// The centres of the groups.
    pub fn centres(&self) -> &[Vec<f64>] {
        &self.centres
    }

    /// The group of each row of a matrix laid out in rows.
    pub fn predict(&self, rows: &Matrix<f64>) -> Vec<u32> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let turned = Turned::new(&self.centres);
        let mut scores = vec![0.0; self.centres.len()];
        (0..rows.rows()).map(|row| turned.nearest(rows.row(row), &mut scores) as u32).collect()
    }

    /// Lloyd's steps until the centres stand.
    fn settle(mut self, rows: &Matrix<f64>, steps_max: u32, limit: f64) -> Grouped {
        let mut steps = 0;
        loop {
            let pass = self.pass(rows);
            if steps == steps_max {
                return Grouped { model: self, inertia: pass.inertia, steps };
            }
            steps += 1;
            let mut moved = 0.0;
            for (at, centre) in self.centres.iter_mut().enumerate() {
                // A group that lost all its rows starts again at the row that is worst off.
                let sums = &pass.sums[at * rows.columns()..(at + 1) * rows.columns()];
                for (column, value) in centre.iter_mut().enumerate() {
                    let next = match pass.counts[at] {
                        0 => rows.row(pass.farthest.1)[column],
                        count => sums[column] / count as f64,
                    };
                    moved += (next - *value).powi(2);
                    *value = next;
                }
            }
            if moved <= limit {
                let inertia = self.pass(rows).inertia;
                return Grouped { model: self, inertia, steps };
            }
        }
    }

    fn pass(&self, rows: &Matrix<f64>) -> Pass {
        let turned = Turned::new(&self.centres);
        let (groups, columns) = (self.centres.len(), rows.columns());
        let empty =
            Pass { sums: vec![0.0; groups * columns], counts: vec![0; groups], inertia: 0.0, farthest: (-1.0, 0) };
        let chunks: Vec<Pass> = (0..rows.rows().div_ceil(CHUNK_ROWS))
            .into_par_iter()
            .map(|chunk| {
                let mut pass = empty.clone();
                let mut scores = vec![0.0; groups];
                for row in chunk * CHUNK_ROWS..((chunk + 1) * CHUNK_ROWS).min(rows.rows()) {
                    let values = rows.row(row);
                    let group = turned.nearest(values, &mut scores);
                    let square = square_distance(values, &self.centres[group]);
                    pass.inertia += square;
                    pass.counts[group] += 1;
                    let sums = &mut pass.sums[group * columns..(group + 1) * columns];
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                    if square > pass.farthest.0 {
                        pass.farthest = (square, row);
                    }
                }
                pass
            })
            .collect();
        chunks.into_iter().fold(empty, |mut all, pass| {
            all.sums.iter_mut().zip(&pass.sums).for_each(|(all, sum)| *all += sum);
            all.counts.iter_mut().zip(&pass.counts).for_each(|(all, count)| *all += count);
            all.inertia += pass.inertia;
            if pass.farthest.0 > all.farthest.0 {
                all.farthest = pass.farthest;
            }
            all
        })
    }
}

/// The centres column by column: a row's products with all of them are added up side by side.
struct Turned {
    groups: usize,
    columns: Vec<f64>,
    squares: Vec<f64>,
}

impl Turned {
    fn new(centres: &[Vec<f64>]) -> Turned {
        let columns = (0..centres[0].len()).flat_map(|column| centres.iter().map(move |centre| centre[column]));
        let squares = centres.iter().map(|centre| centre.iter().map(|value| value * value).sum()).collect();
        Turned { groups: centres.len(), columns: columns.collect(), squares }
    }

    /// The first of the nearest centres: `|c|² - 2 x c` is smallest there.
    fn nearest(&self, row: &[f64], scores: &mut [f64]) -> usize {
        scores.copy_from_slice(&self.squares);
        for (&value, centres) in row.iter().zip(self.columns.chunks_exact(self.groups)) {
            scores.iter_mut().zip(centres).for_each(|(score, centre)| *score -= 2.0 * value * centre);
        }
        let mut best = 0;
        for (at, &score) in scores.iter().enumerate() {
            if score < scores[best] {
                best = at;
            }
        }
        best
    }
}

/// Each centre is a row drawn by its squared distance to the nearest one so far: the best of `2 + ln k` draws.
fn draw_far_apart(rows: &Matrix<f64>, groups: usize, chance: &mut SplitMix) -> Vec<Vec<f64>> {
    let first = rows.row(chance.below(rows.rows()));
    let distances_to = |centre: &[f64]| -> Vec<f64> {
        (0..rows.rows())
            .into_par_iter()
            .with_min_len(CHUNK_ROWS)
            .map(|row| square_distance(rows.row(row), centre))
            .collect()
    };
    let mut centres = vec![first.to_vec()];
    let mut distances = distances_to(first);
    let draws = 2 + (groups as f64).ln() as usize;
    while centres.len() < groups {
        let sum: f64 = distances.iter().sum();
        let mut best: Option<(f64, usize, Vec<f64>)> = None;
        for _ in 0..draws {
            let mut left = chance.unit() * sum;
            let drawn = distances.iter().position(|distance| {
                left -= distance;
                left < 0.0
            });
            let row = drawn.unwrap_or(rows.rows() - 1);
            let mut nearer = distances_to(rows.row(row));
            nearer.iter_mut().zip(&distances).for_each(|(new, old)| *new = new.min(*old));
            let rest: f64 = nearer.iter().sum();
            if best.as_ref().is_none_or(|(least, ..)| rest < *least) {
                best = Some((rest, row, nearer));
            }
        }
        let (_, row, nearer) = best.expect("there are at least two draws");
        centres.push(rows.row(row).to_vec());
        distances = nearer;
    }
    centres
}

fn mean_variance(rows: &Matrix<f64>) -> f64 {
    let count = rows.rows() as f64;
    let variance = |column: usize| {
        let mean = (0..rows.rows()).map(|row| rows.get(row, column)).sum::<f64>() / count;
        (0..rows.rows()).map(|row| (rows.get(row, column) - mean).powi(2)).sum::<f64>() / count
    };
    (0..rows.columns()).map(variance).sum::<f64>() / rows.columns() as f64
}

#[inline]
fn square_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;
    use crate::samples;

    fn settings(groups: u32) -> KMeansSettings {
        KMeansSettings { groups, ..KMeansSettings::default() }
    }

    /// `KMeans(6, n_init=10).fit(blobs).inertia_` is 58.5521693118601.
    #[test]
    fn groups_are_those_of_scikit_learn() {
        let rows = samples::blobs();
        let grouped = KMeans::fit(&settings(6), &rows, 1).unwrap();
        assert!((grouped.inertia - 58.5521693118601).abs() < 1e-9, "{}", grouped.inertia);
        let groups = grouped.model.predict(&rows);
        assert!((6..500).all(|row| groups[row] == groups[row % 6]));
    }

    #[test]
    fn threads_change_no_digit() {
        let rows = samples::wide(&samples::matrix(3, 5_000, 3, Layout::Rows));
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| KMeans::fit(&settings(7), &rows, 5).unwrap())
        };
        assert_eq!(of(1), of(3));
    }

    #[test]
    fn equal_rows_make_equal_centres() {
        let grouped = KMeans::fit(&settings(3), &Matrix::zeros(10, 2, Layout::Rows), 1).unwrap();
        assert_eq!(grouped.inertia, 0.0);
    }

    #[test]
    fn damage_and_bad_settings_are_refused() {
        let rows = samples::blobs();
        let refused = KMeans::fit(&settings(501), &rows, 1).unwrap_err().to_string();
        assert!(refused.starts_with("there are 500 rows, and k-means takes 501"), "{refused}");
        assert!(serde_json::from_str::<KMeans>(r#"{"centres": [[1, 2], [3]]}"#).is_err());
        assert!(serde_json::from_str::<KMeans>(r#"{"centres": []}"#).is_err());
    }
}
