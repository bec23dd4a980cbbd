//! Runs as they change: server-sent events.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use gristmill_backends::state::{RunFilter, RunRecord, StatusFilter};
use gristmill_protocol::RunId;
use gristmill_protocol::api::{PAGE_MAX, RunItem, RunItems};
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
/// How long a stream lasts. Whoever watches on asks again, and is let in again if they still may.
const STREAM_MAX: Duration = Duration::from_secs(300);
/// The newest runs that are compared at each look, whether or not they are open.
const NEWEST: usize = 100;
/// Runs that are looked up by themselves at each look.
const LOOKED_UP: usize = 100;
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
    let watching = Watching { api, record, told: None, is_over: false, since: Instant::now() };
    Ok(alive(unfold(watching, Watching::next)))
}

/// A run that somebody watches.
struct Watching {
    api: Arc<Api>,
    record: RunRecord,
    /// Position and status that were told last.
    told: Option<(u64, String)>,
    is_over: bool,
    since: Instant,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Watching)> {
        let mut ending = self.api.ending.subscribe();
        loop {
            if self.is_over || *ending.borrow() || self.since.elapsed() > STREAM_MAX {
                return None;
            }
            let looked = whole(&self.api, &self.record).await;
            match &looked {
                // A store that went back has forgotten it.
                Err(refusal) if refusal.status() == StatusCode::NOT_FOUND => return None,
                // One that is away for a while is no reason to end: the next look may find it.
                Err(_) | Ok(_) => {}
            }
            if let Ok((_, run)) = looked {
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
    let (namespaces, since) = (caller.namespaces, Instant::now());
    let watching = WatchingAll { api, namespaces, known: HashMap::new(), is_first: true, since };
    Ok(alive(unfold(watching, WatchingAll::next)))
}

/// The list of runs, which somebody watches.
struct WatchingAll {
    api: Arc<Api>,
    namespaces: Option<Vec<String>>,
    /// The newest runs and the open ones, as they were at the last look.
    known: HashMap<RunId, RunItem>,
    is_first: bool,
    since: Instant,
}

impl WatchingAll {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, WatchingAll)> {
        let mut ending = self.api.ending.subscribe();
        loop {
            if *ending.borrow() || self.since.elapsed() > STREAM_MAX {
                return None;
            }
            if let Ok(items) = self.changes().await
                && (self.is_first || !items.is_empty())
            {
                self.is_first = false;
                return Some((Ok(event("runs", None, &RunItems { items })), self));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AT_LIST) => {}
                _ = ending.changed() => {}
            }
        }
    }

    /// Runs that are new or not as they were; at first the newest.
    async fn changes(&mut self) -> Result<Vec<RunItem>, Refusal> {
        let filter = RunFilter { namespaces: self.namespaces.clone(), ..RunFilter::default() };
        let newest = self.api.state.find_runs(&filter, None, NEWEST).await?.records;
        let open = RunFilter { status: Some(StatusFilter::Open), ..filter };
        let open = self.api.state.find_runs(&open, None, PAGE_MAX).await?.records;
        let mut seen: HashMap<RunId, RunItem> = HashMap::new();
        for record in newest.iter().chain(&open) {
            seen.insert(record.run, item(record));
        }
        // One that was open and isn't among these has ended, or there are too many before it.
        let gone = self.known.values().filter(|known| known.ended_ms.is_none() && !seen.contains_key(&known.run));
        for run in gone.map(|known| known.run).take(LOOKED_UP).collect::<Vec<_>>() {
            if let Some(record) = self.api.state.run(run).await? {
                seen.insert(run, item(&record));
            }
        }
        let mut items: Vec<RunItem> = match self.is_first {
            true => newest.iter().map(item).collect(),
            false => seen.values().filter(|item| self.known.get(&item.run) != Some(item)).cloned().collect(),
        };
        items.sort_by_key(|item| std::cmp::Reverse(item.run));
        self.known = seen;
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
