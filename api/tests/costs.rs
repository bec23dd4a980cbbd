//! What runs cost, how budgets stand and what is recommended for pools, as the API tells it.

mod support;

use std::time::{Duration, Instant};

use gristmill_pools::costs::{Budgets, Prices};
use gristmill_pools::sizing::{Peak, StepUsage, TaskUse};
use gristmill_protocol::api::Role;
use gristmill_scheduler::budgets::CostsKeeper;
use gristmill_scheduler::{Driver, DriverConfig};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::support::Server;

/// How long something may take that has to come, on a machine that builds something else as well.
const PATIENCE: Duration = Duration::from_secs(60);

fn keeper(server: &Server, budgets: Value) -> CostsKeeper {
    let prices = json!({ "currency": "EUR", "pools": { "default": { "worker_hour": 7_200.0, "slots": 2 } } });
    let prices: Prices = serde_json::from_value(prices).expect("they are right");
    let budgets: Budgets = serde_json::from_value(budgets).expect("they are right");
    CostsKeeper::new(server.state.clone(), prices, budgets)
}

/// Asks until the answer fits.
async fn asked_until(server: &Server, path: &str, token: Option<&str>, fits: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let answer = server.ask("GET", path, token, None, &[]).await;
        if answer.status == StatusCode::OK && fits(&answer.json()) {
            return answer.json();
        }
        assert!(start.elapsed() < PATIENCE, "{path}: {:?}", answer.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
