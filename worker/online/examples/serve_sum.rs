//! Serves a model that adds two numbers, to try clients with.
//!
//! `serve_sum [ADDRESS]` prints the address that it listens at and serves until its standard input ends.
//!
//! The model `sum` takes `x` and `y`, and optionally a text `kind`; it predicts their sum and says whether that is over
//! ten. Version 1 adds, version 2 (`challenger`) adds one more.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{
    Column, Field, Kind, Known, Loaded, Models, PredictError, Predictions, Predictor, Rows, Scoring, ServerSettings,
    Signature, Source, SourceError, Texts, Values, serve,
};
use gristmill_telemetry::metrics::Metrics;
use tokio::net::TcpListener;

/// Clients are tried here, however busy the machine is: nothing is shed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Sum {
    signature: Signature,
    more: f64,
}

impl Predictor for Sum {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let (Values::Number(x), Values::Number(y)) = (rows.columns()[0].values(), rows.columns()[1].values()) else {
            return Err(PredictError::Failed("the rows are of another signature".to_owned()));
        };
        let sums: Vec<f64> = x.iter().zip(y).map(|(x, y)| x + y + self.more).collect();
        let sizes: Texts = sums.iter().map(|sum| if *sum > 10.0 { "large" } else { "small" }).collect();
        let columns = vec![("prediction".into(), Column::from(sums)), ("size".into(), Column::from(sizes))];
        Ok(Predictions::new(columns, rows.len()))
    }
}

struct Shelf;

impl Source for Shelf {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        let aliases = [("champion".to_owned(), 1), ("challenger".to_owned(), 2)].into();
        Ok(vec![Known { name: "sum".to_owned(), versions: vec![1, 2], aliases, stamps: [].into() }])
    }

    fn load(&self, _name: &str, version: u64) -> Result<Loaded, SourceError> {
        let inputs = vec![
            Field::new("x", Kind::Number),
            Field::new("y", Kind::Number),
            Field::new("kind", Kind::Text).nullable(),
        ];
        let outputs = vec![Field::new("prediction", Kind::Number), Field::new("size", Kind::Text)];
        let more = if version == 2 { 1.0 } else { 0.0 };
        Ok(Loaded { predictor: Arc::new(Sum { signature: Signature::new(inputs, outputs), more }), bytes: 100 })
    }
}

/// What scores with the model.
pub async fn scoring() -> Result<Arc<Scoring>, Box<dyn std::error::Error>> {
    let models = Models::new(Arc::new(Shelf), 1_000_000);
    models.refresh().await?;
    let engine = Engine::start(EngineSettings { wait_max: PATIENCE, ..EngineSettings::default() })?;
    Ok(Arc::new(Scoring::new(models, engine, Arc::new(Metrics::new(None)), None)))
}

/// Serves until `stop` ends. Returns the number of connections that were cut.
pub async fn run(listener: TcpListener, stop: impl Future<Output = ()>) -> Result<usize, Box<dyn std::error::Error>> {
    let scoring = scoring().await?;
    let settings = ServerSettings { timeout: PATIENCE, ..ServerSettings::default() };
    Ok(serve(listener, scoring, settings, stop).await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    io::stdout().flush()?;
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    let cut = run(listener, async { drop(ended.await) }).await?;
    if cut > 0 { Err(format!("{cut} connections were cut").into()) } else { Ok(()) }
}
