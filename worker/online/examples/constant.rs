//! An axum handler that parses a request for one row and answers a constant: what the server costs with no model in it.
//!
//! `constant [ADDRESS]` prints the address that it listens at and serves until its standard input ends. Whatever model
//! the path names, the answer is the same.

use std::hint::black_box;
use std::io::{self, Read, Write};

use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;

/// The request as serde reads it.
#[derive(Deserialize)]
struct Infer {
    inputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    data: Vec<Cell>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    Number(f64),
    Text(String),
}

impl Cell {
    fn size(&self) -> usize {
        match self {
            Cell::Number(number) => black_box(*number).to_bits().count_ones() as usize,
            Cell::Text(text) => text.len(),
        }
    }
}

const CONSTANT: &str = r#"{"model_name":"forest","model_version":"1","outputs":[{"name":"prediction","shape":[1],"datatype":"INT64","data":[1]},{"name":"probability","shape":[1],"datatype":"FP64","data":[0.5123456789]}]}"#;

async fn constant(Json(request): Json<Infer>) -> ([(&'static str, &'static str); 1], &'static str) {
    let cells: usize = request.inputs.iter().flat_map(|tensor| &tensor.data).map(Cell::size).sum();
    let names: usize = request.inputs.iter().map(|tensor| tensor.name.len() + tensor.datatype.len()).sum();
    let rows: u64 = request.inputs.iter().flat_map(|tensor| &tensor.shape).sum();
    black_box((cells, names, rows));
    ([("content-type", "application/json")], CONSTANT)
}

/// The server's paths.
pub fn app() -> Router {
    Router::new().route("/v2/models/{model}/infer", post(constant))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    io::stdout().flush()?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    axum::serve(listener, app()).with_graceful_shutdown(async { drop(ended.await) }).await?;
    Ok(())
}
