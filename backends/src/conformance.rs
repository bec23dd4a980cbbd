//! What the seams promise, as tests that take any implementation.
//!
//! Each implementation's tests hand a fixture to [`state()`], [`broker()`] or [`artifacts()`], which runs every case
//! against something fresh and says which of them failed. A bug found in one implementation becomes a case for
//! all of them.
//!
//! Cases wait for signals, with a limit that only a bug can reach. Where they say that something doesn't
//! come, they wait for a short while; that can miss a bug of a slow implementation but never fails a right one.

mod artifacts;
mod broker;
mod documents;
mod journals;
mod leases;
mod listing;
mod reference;
mod state;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::artifacts::Artifacts;
use crate::broker::Broker;
use crate::state::State;
use crate::state::model::Ageing;

/// How long a signal may take that has to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a signal is waited for that must not come.
const GLIMPSE: Duration = Duration::from_millis(100);

/// Makes stores to be tested.
#[async_trait]
pub trait StateFixture: Send + Sync {
    /// A store in which nothing has happened yet.
    async fn fresh(&self) -> Arc<dyn State>;
    /// Lets time pass for all stores of this fixture; `false` when it can't, and what needs it isn't tested.
    async fn pass(&self, by: Duration) -> bool;
    /// What ends a lease of these stores.
    fn ageing(&self) -> Ageing;
}

/// Makes brokers to be tested.
#[async_trait]
pub trait BrokerFixture: Send + Sync {
    /// A broker without any message.
    async fn fresh(&self) -> Arc<dyn Broker>;
}

/// Makes artifact stores to be tested.
#[async_trait]
pub trait ArtifactsFixture: Send + Sync {
    /// A store without any artifact.
    async fn fresh(&self) -> Arc<dyn Artifacts>;
}

/// One promise: its name is the sentence, and it panics where it is broken.
struct Case<F: ?Sized> {
    name: &'static str,
    run: fn(Arc<F>) -> Running,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The cases of a file, by the names of their functions.
macro_rules! cases {
    ($fixture:ident: $($name:ident),* $(,)?) => {
        pub(super) fn cases() -> Vec<super::Case<dyn super::$fixture>> {
            vec![$(super::Case { name: stringify!($name), run: |fixture| Box::pin($name(fixture)) }),*]
        }
    };
}
use cases;

/// Tests a state store.
///
/// # Panics
/// When a promise is broken; the message names all that are.
pub async fn state(fixture: Arc<dyn StateFixture>) {
    let all = [journals::cases(), listing::cases(), leases::cases(), documents::cases(), reference::cases()];
    run(fixture, all.into_iter().flatten().collect()).await;
}

/// Tests a broker.
///
/// # Panics
/// When a promise is broken; the message names all that are.
pub async fn broker(fixture: Arc<dyn BrokerFixture>) {
    run(fixture, broker::cases()).await;
}

/// Tests an artifact store.
///
/// # Panics
/// When a promise is broken; the message names all that are.
pub async fn artifacts(fixture: Arc<dyn ArtifactsFixture>) {
    run(fixture, artifacts::cases()).await;
}

async fn run<F: ?Sized + Send + Sync + 'static>(fixture: Arc<F>, cases: Vec<Case<F>>) {
    let mut broken = Vec::new();
    for case in cases {
        // In a task of its own, so that a panic ends this case alone.
        let task = tokio::spawn((case.run)(Arc::clone(&fixture)));
        match tokio::time::timeout(2 * PATIENCE, task).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => broken.push(case.name.to_owned()),
            Err(_) => broken.push(format!("{} (took too long)", case.name)),
        }
    }
    assert!(broken.is_empty(), "broken promises: {}", broken.join(", "));
}

/// Runs a future for each of `count`, all at once, and gives back what they came to.
async fn race<T: Send + 'static, R: Future<Output = T> + Send + 'static>(
    count: u64,
    racer: impl Fn(u64) -> R,
) -> Vec<T> {
    let start = Arc::new(tokio::sync::Barrier::new(usize::try_from(count).unwrap_or(1)));
    let racers: Vec<_> = (0..count)
        .map(|number| {
            let start = Arc::clone(&start);
            let racer = racer(number);
            tokio::spawn(async move {
                start.wait().await;
                racer.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for racer in racers {
        results.push(racer.await.expect("a racer ends"));
    }
    results
}
