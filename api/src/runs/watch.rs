//! Runs as they change: server-sent events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use gristmill_backends::state::{RunFilter, RunRecord, StatusFilter};
use gristmill_protocol::RunId;
use gristmill_protocol::api::{PAGE_DEFAULT, PAGE_MAX, RunItem, RunItems};
use serde::Serialize;

use super::detail::whole;
use super::find;
use super::listing::item;
use crate::request::{Asked, Named, Nothing};
use crate::{Api, Caller, Refusal};

/// How often a run is looked at for changes: four times a second is as often as people see.
const LOOK: Duration = Duration::from_millis(250);
/// How often the list is: each look is a page of open runs.
const LOOK_AT_LIST: Duration = Duration::from_millis(1_000);
/// Silence after which a comment says that the connection is alive.
const ALIVE: Duration = Duration::from_secs(10);
/// Events wait no longer than this for a reader; then the newest state takes their place.
type Events<S> = Sse<axum::response::sse::KeepAliveStream<S>>;

/// `GET /v1/runs/{run}/events`
pub(crate) async fn run_events(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(run): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Events<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let record = find(&api, &caller, &run).await?;
    let watching = Watching { api, record, told: None, is_over: false };
    Ok(alive(unfold(watching, Watching::next)))
}

/// A run that somebody watches.
struct Watching {
    api: Arc<Api>,
    record: RunRecord,
    /// Position and status that were told last.
    told: Option<(u64, String)>,
    is_over: bool,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Watching)> {
        let mut ending = self.api.ending.subscribe();
        loop {
            if self.is_over || *ending.borrow() {
                return None;
            }
            // A store that is away for a while is no reason to end: the next look may find it.
            if let Ok((_, run)) = whole(&self.api, &self.record).await {
                let now = (run.position, run.status.clone());
                // While tasks are out, times go on though nothing happens; pages count them up by themselves.
                if self.told.as_ref() != Some(&now) {
                    let name = if run.has_ended() { "end" } else { "run" };
                    self.is_over = run.has_ended();
                    self.told = Some(now);
                    return Some((Ok(event(name, Some(run.position), &run)), self));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = ending.changed() => {}
            }
        }
    }
}

/// `GET /v1/events`
pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Events<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let watching = WatchingAll { api, namespaces: caller.namespaces, open: HashMap::new(), newest: None };
    Ok(alive(unfold(watching, WatchingAll::next)))
}

/// The list of runs, which somebody watches.
struct WatchingAll {
    api: Arc<Api>,
    namespaces: Option<Vec<String>>,
    /// Runs that were open when they were told.
    open: HashMap<RunId, RunItem>,
    /// The newest run that was told; nothing before the first event.
    newest: Option<RunId>,
}

impl WatchingAll {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, WatchingAll)> {
        let mut ending = self.api.ending.subscribe();
        loop {
            if *ending.borrow() {
                return None;
            }
            let is_first = self.newest.is_none();
            if let Ok(items) = self.changes().await
                && (is_first || !items.is_empty())
            {
                return Some((Ok(event("runs", None, &RunItems { items })), self));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AT_LIST) => {}
                _ = ending.changed() => {}
            }
        }
    }

    /// Runs that are new, and those that were open and have changed.
    async fn changes(&mut self) -> Result<Vec<RunItem>, Refusal> {
        let filter = RunFilter { namespaces: self.namespaces.clone(), ..RunFilter::default() };
        let count = if self.newest.is_none() { PAGE_DEFAULT } else { PAGE_MAX };
        let newest = self.api.state.find_runs(&filter, None, count).await?.records;
        let open = RunFilter { status: Some(StatusFilter::Open), ..filter };
        let open = self.api.state.find_runs(&open, None, PAGE_MAX).await?.records;
        let mut items: Vec<RunItem> = Vec::new();
        let last = self.newest;
        for record in newest.iter().filter(|record| last.is_none_or(|last| record.run > last)) {
            items.push(item(record));
        }
        // One that ended isn't among the open ones any more.
        let gone = self.open.keys().filter(|run| !open.iter().any(|record| record.run == **run)).copied();
        for run in gone.collect::<Vec<_>>() {
            if let Some(record) = self.api.state.run(run).await? {
                items.retain(|item| item.run != run);
                items.push(item(&record));
            }
        }
        // One that was resumed is open again.
        for record in &open {
            if last.is_some()
                && !self.open.contains_key(&record.run)
                && !items.iter().any(|item| item.run == record.run)
            {
                items.push(item(record));
            }
        }
        self.open = open.iter().map(|record| (record.run, item(record))).collect();
        self.newest = newest.first().map(|record| record.run).max(last).or(Some(RunId::from_u128(0)));
        Ok(items)
    }
}

fn alive<S>(stream: S) -> Events<S>
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE))
}

fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("an answer is plain data");
    let event = Event::default().event(name).data(data);
    match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    }
}
