//! A forest that was never trained, and the request for one row of it: what the measurements here serve and ask.

use std::hint::black_box;
use std::sync::Arc;

use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{
    Column, Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, Rows, Scoring, Signature, Source,
    SourceError, Values,
};
use gristmill_telemetry::metrics::Metrics;

const COLUMNS: usize = 8;
const TREES: usize = 100;
const DEPTH: usize = 10;

/// What is served: each call of a model walks its trees so often, for models that take longer; the one that does so zero
/// times panics.
const MODELS: [(&str, usize); 5] = [("forest", 1), ("slow10", 10), ("slow50", 50), ("slow100", 100), ("panics", 0)];

/// A forest of full trees in flat arrays, filled by a fixed sequence: the work of a real one, without learning it.
struct Forest {
    signature: Signature,
    splits: Vec<(u8, f64)>,
    leaves: Vec<f64>,
    /// Each call walks this often, for models that take longer.
    times: usize,
}

impl Forest {
    fn new(times: usize) -> Forest {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31)
        };
        let splits = (0..TREES << DEPTH).map(|_| ((next() * COLUMNS as f64) as u8, next())).collect();
        let leaves = (0..TREES << DEPTH).map(|_| next()).collect();
        let inputs = (0..COLUMNS).map(|at| Field::new(&format!("x{at}"), Kind::Number)).collect();
        let outputs = vec![Field::new("prediction", Kind::Integer), Field::new("probability", Kind::Number)];
        Forest { signature: Signature::new(inputs, outputs), splits, leaves, times }
    }

    fn score(&self, row: &[f64; COLUMNS]) -> f64 {
        let mut sum = 0.0;
        for tree in 0..TREES {
            let (splits, leaves) = (&self.splits[tree << DEPTH..], &self.leaves[tree << DEPTH..]);
            let mut node = 1;
            for _ in 0..DEPTH {
                let (column, at) = splits[node - 1];
                node = 2 * node + usize::from(row[usize::from(column)] > at);
            }
            sum += leaves[node - (1 << DEPTH)];
        }
        sum / TREES as f64
    }
}

impl Predictor for Forest {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let columns: Vec<&[f64]> = rows
            .columns()
            .iter()
            .map(|column| match column.values() {
                Values::Number(values) => values.as_slice(),
                _ => &[],
            })
            .collect();
        assert!(self.times > 0, "as it was told to");
        let mut scores = vec![0.0; rows.len()];
        for _ in 0..self.times {
            for (at, score) in scores.iter_mut().enumerate() {
                *score = self.score(&std::array::from_fn(|column| columns[column][at]));
            }
            black_box(&scores);
        }
        let labels: Vec<i64> = scores.iter().map(|score| i64::from(*score > 0.5)).collect();
        let columns = vec![("prediction".into(), labels.into()), ("probability".into(), Column::from(scores))];
        Ok(Predictions::new(columns, rows.len()))
    }
}

struct Shelf;

impl Source for Shelf {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        let known = |(name, _): &(&str, usize)| Known {
            name: (*name).to_owned(),
            versions: vec![1],
            aliases: [].into(),
            stamps: [].into(),
        };
        Ok(MODELS.iter().map(known).collect())
    }

    fn load(&self, name: &str, _version: u64) -> Result<Loaded, SourceError> {
        let known = MODELS.iter().find(|(known, _)| *known == name);
        let (_, times) = known.ok_or_else(|| SourceError(format!("there is no `{name}`")))?;
        let forest = Forest::new(*times);
        let bytes = (forest.splits.len() + forest.leaves.len()) * 16;
        Ok(Loaded { predictor: Arc::new(forest), bytes })
    }
}

/// Scoring with these models, and as the settings say.
pub async fn scoring(settings: EngineSettings) -> Result<Arc<Scoring>, Box<dyn std::error::Error>> {
    let models = Models::new(Arc::new(Shelf), 1 << 30);
    models.refresh().await?;
    let engine = Engine::start(settings)?;
    Ok(Arc::new(Scoring::new(models, engine, Arc::new(Metrics::new(None)), None)))
}

/// A request for one row of a model, as it goes over the wire.
pub fn request(model: &str) -> Arc<[u8]> {
    let tensors: Vec<String> = (0..COLUMNS)
        .map(|at| format!(r#"{{"name":"x{at}","shape":[1],"datatype":"FP64","data":[0.{at}34567]}}"#))
        .collect();
    let body = format!(r#"{{"inputs":[{}]}}"#, tensors.join(","));
    let head = format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes().into()
}
