//! Lists of runs: filters, pages, and the order of ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::RUN_FILTER_NAMESPACES_MAX;
use gristmill_protocol::{RunId, Shard, Timestamp};

use super::state::{OWNER, SHARD_LEASE, entry, new_run};
use super::{StateFixture, cases};
use crate::state::{
    Append, AppendEntry, Created, NewRun, RunFilter, RunRecord, State, StateError, StatusChange, StatusFilter,
};

type Fixture = Arc<dyn StateFixture>;

cases!(StateFixture:
    filters_and_their_combinations_find_what_fits,
    what_is_rare_is_found_among_many,
    pages_miss_and_repeat_nothing_while_runs_come_in,
    a_filter_takes_so_many_namespaces,
    ends_are_told_in_their_order,
    a_run_that_is_opened_again_is_told_when_it_ends_again,
    ends_that_come_while_they_are_read_are_told_once,
);

const SHARDS: [Shard; 3] = [Shard(0), Shard(3), Shard(15)];
const NAMESPACES: [&str; 3] = ["default", "team-a", "team-b"];
const PIPELINES: [&str; 2] = ["churn", "flights"];

/// A store whose [`SHARDS`] have an owner.
struct Lists {
    fixture: Fixture,
    state: Arc<dyn State>,
}

impl Lists {
    async fn new(fixture: Fixture) -> Lists {
        let state = fixture.fresh().await;
        for shard in SHARDS {
            state.own(shard, OWNER, SHARD_LEASE).await.expect("the shard is free");
        }
        Lists { fixture, state }
    }

    /// Makes a run; later numbers sort later.
    async fn create(&self, number: u64, namespace: &str, pipeline: &str) -> RunId {
        let run = run_of(number);
        let new = NewRun { namespace: namespace.to_owned(), pipeline: pipeline.to_owned(), ..new_run(run) };
        assert_eq!(self.state.create_run(new).await.expect("a run can be made"), Created::New);
        run
    }

    async fn set_status(&self, run: RunId, status: StatusChange) {
        let head = self.state.run(run).await.expect("readable").expect("there").head;
        let entries = vec![AppendEntry { status, ..entry(run, head + 1) }];
        let append = Append { shard: run.shard(), token: OWNER, id: head, entries, consumed: vec![] };
        self.state.append(append).await.expect("it fits");
    }

    async fn end(&self, run: RunId) {
        self.set_status(run, StatusChange::Ended(RunStatus::Succeeded)).await;
    }

    /// All that fits, page by page.
    async fn find(&self, filter: &RunFilter, limit: usize) -> Vec<RunRecord> {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.state.find_runs(filter, before, limit).await.expect("readable");
            assert!(page.records.len() <= limit);
            found.extend(page.records);
            match page.next {
                None => return found,
                Some(next) => {
                    assert!(before.is_none_or(|before| next < before), "a page goes on where it began");
                    before = Some(next);
                }
            }
        }
    }

    /// Waits until the ends so far are told, which is when their millisecond is over.
    async fn settle(&self) {
        assert!(self.fixture.pass(Duration::from_millis(2)).await);
    }

    async fn ended(&self, after: (Timestamp, RunId), limit: usize) -> Vec<RunRecord> {
        self.state.ended_runs(after, limit).await.expect("readable")
    }

    /// All ends, page by page.
    async fn all_ended(&self, limit: usize) -> Vec<RunId> {
        let (mut found, mut after) = (Vec::new(), begin());
        loop {
            let page = self.ended(after, limit).await;
            let Some(last) = page.last() else { return found };
            after = place(last);
            found.extend(page.iter().map(|record| record.run));
        }
    }
}

/// Before all ends.
fn begin() -> (Timestamp, RunId) {
    (Timestamp(0), RunId::from_u128(0))
}

fn run_of(number: u64) -> RunId {
    let shard = SHARDS[number as usize % SHARDS.len()];
    RunId::derive(Timestamp(1_700_000_000_000 + number), "default", "listed", Some(shard))
}

fn place(record: &RunRecord) -> (Timestamp, RunId) {
    (record.ended.expect("it has ended"), record.run)
}

fn runs(records: &[RunRecord]) -> Vec<RunId> {
    records.iter().map(|record| record.run).collect()
}

/// Every filter there is of some namespaces, pipelines and statuses.
fn all_filters() -> Vec<RunFilter> {
    let name = |name: &str| name.to_owned();
    let namespaces = [vec![], vec!["team-a"], vec!["team-b", "nobody", "default", "team-b"], vec!["nobody"]];
    let namespaces: Vec<_> = namespaces.into_iter().map(|names| Some(names.into_iter().map(name).collect())).collect();
    let mut all = Vec::new();
    for namespaces in [vec![None], namespaces].concat() {
        for pipeline in [None, Some("churn"), Some("flights"), Some("nothing")] {
            let ends = [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Cancelled];
            let statuses = [None, Some(StatusFilter::Open)].into_iter();
            for status in statuses.chain(ends.map(|status| Some(StatusFilter::Ended(status)))) {
                all.push(RunFilter { namespaces: namespaces.clone(), pipeline: pipeline.map(name), status });
            }
        }
    }
    all
}

async fn filters_and_their_combinations_find_what_fits(fixture: Fixture) {
    let lists = Lists::new(fixture).await;
    for number in 0..60u64 {
        // Numbers that have nothing in common with each other, so that all combinations come.
        let run = lists.create(number, NAMESPACES[number as usize % 3], PIPELINES[number as usize / 3 % 2]).await;
        let changes: &[StatusChange] = match number / 6 % 6 {
            0 => &[],
            1 => &[StatusChange::Closing],
            2 => &[StatusChange::Ended(RunStatus::Succeeded)],
            3 => &[StatusChange::Closing, StatusChange::Ended(RunStatus::Cancelled)],
            4 => &[StatusChange::Ended(RunStatus::Failed), StatusChange::Reopened],
            _ => &[
                StatusChange::Ended(RunStatus::Failed),
                StatusChange::Reopened,
                StatusChange::Ended(RunStatus::Succeeded),
            ],
        };
        for &change in changes {
            lists.set_status(run, change).await;
        }
    }
    let all = lists.state.runs(None, 1_000).await.expect("readable");
    assert_eq!(runs(&all), (0..60).rev().map(run_of).collect::<Vec<_>>());
    for filter in all_filters() {
        let fitting: Vec<RunRecord> = all.iter().filter(|record| filter.fits(record)).cloned().collect();
        for limit in [1, 7, 1_000] {
            assert_eq!(lists.find(&filter, limit).await, fitting, "{filter:?} by {limit}");
        }
    }
}

/// More runs than a store looks at in one go, in each list that it could look at.
async fn what_is_rare_is_found_among_many(fixture: Fixture) {
    let lists = Lists::new(fixture).await;
    let mut rare = Vec::new();
    for number in 0..1_800u64 {
        let (namespace, pipeline) = match number % 599 {
            7 => ("default", "churn"),
            odd if odd % 2 == 1 => ("default", "flights"),
            _ => ("team-a", "churn"),
        };
        let run = lists.create(number, namespace, pipeline).await;
        if (namespace, pipeline) == ("default", "churn") {
            rare.insert(0, run);
        }
    }
    let filter = RunFilter {
        namespaces: Some(vec!["default".to_owned()]),
        pipeline: Some("churn".to_owned()),
        status: Some(StatusFilter::Open),
    };
    assert_eq!(rare.len(), 3);
    assert_eq!(runs(&lists.find(&filter, 50).await), rare);
}

async fn pages_miss_and_repeat_nothing_while_runs_come_in(fixture: Fixture) {
    let lists = Lists::new(fixture).await;
    for number in 0..40 {
        lists.create(100 + 2 * number, NAMESPACES[number as usize % 2], "churn").await;
    }
    let both = Some(NAMESPACES[..2].iter().map(|&name| name.to_owned()).collect());
    for (round, filter) in [
        RunFilter::default(),
        RunFilter { pipeline: Some("churn".to_owned()), ..RunFilter::default() },
        RunFilter { namespaces: both, status: Some(StatusFilter::Open), ..RunFilter::default() },
    ]
    .into_iter()
    .enumerate()
    {
        let there: BTreeSet<RunId> = runs(&lists.find(&filter, 100).await).into_iter().collect();
        let (mut seen, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = lists.state.find_runs(&filter, before, 6).await.expect("readable");
            seen.extend(runs(&page.records));
            if page.next.is_none() {
                break;
            }
            before = page.next;
            // One that is newer than all, and one that is older than what was made before.
            let number = 20 * round as u64 + pages;
            lists.create(1_000 + number, "default", "churn").await;
            lists.create(99 - number, "team-a", "churn").await;
            pages += 1;
        }
        assert!(seen.is_sorted_by(|a, b| a > b), "{filter:?}: {seen:?}");
        assert!(there.is_subset(&seen.into_iter().collect()), "{filter:?}");
        assert!(pages >= 6);
    }
}

async fn a_filter_takes_so_many_namespaces(fixture: Fixture) {
    let lists = Lists::new(fixture).await;
    let run = lists.create(1, "n5", "churn").await;
    let namespaces = |count: usize| Some((0..count).map(|number| format!("n{number}")).collect());
    let filter = RunFilter { namespaces: namespaces(RUN_FILTER_NAMESPACES_MAX), ..RunFilter::default() };
    assert_eq!(runs(&lists.find(&filter, 10).await), [run]);
    let filter = RunFilter { namespaces: namespaces(RUN_FILTER_NAMESPACES_MAX + 1), ..RunFilter::default() };
    let refused = lists.state.find_runs(&filter, None, 10).await;
    assert!(matches!(refused, Err(StateError::TooMany { .. })), "{refused:?}");
}

async fn ends_are_told_in_their_order(fixture: Fixture) {
    let lists = Lists::new(fixture).await;
    for number in 0..12 {
        lists.create(number, "default", "churn").await;
    }
    assert_eq!(lists.ended(begin(), 10).await, []);
    let mut order = Vec::new();
    for group in [[7, 2, 11], [0, 9, 4], [3, 1, 8]] {
        for number in group {
            lists.end(run_of(number)).await;
        }
        lists.settle().await;
        let mut group: Vec<(Timestamp, RunId)> = Vec::new();
        for record in lists.ended(begin(), 100).await {
            if !order.contains(&record.run) {
                group.push(place(&record));
            }
        }
        assert!(group.len() == 3 && group.is_sorted(), "{group:?}");
        order.extend(group.into_iter().map(|(_, run)| run));
    }
    for limit in [1, 2, 5, 100] {
        assert_eq!(lists.all_ended(limit).await, order);
    }
    let last = lists.ended(begin(), 100).await.pop().expect("nine have ended");
    assert_eq!(lists.state.run(last.run).await.expect("readable"), Some(last.clone()));
    assert_eq!(lists.ended(place(&last), 10).await, []);
    let never = (Timestamp(u64::MAX), RunId::from_u128(u128::MAX));
    assert_eq!(lists.ended(never, 10).await, []);
}

async fn a_run_that_is_opened_again_is_told_when_it_ends_again(fixture: Fixture) {
    let lists = Lists::new(fixture).await;
    let (first, second) = (lists.create(1, "default", "churn").await, lists.create(2, "default", "churn").await);
    lists.set_status(first, StatusChange::Ended(RunStatus::Failed)).await;
    lists.settle().await;
    lists.end(second).await;
    lists.settle().await;
    assert_eq!(lists.all_ended(10).await, [first, second]);
    let seen = place(&lists.ended(begin(), 10).await[1]);
    lists.set_status(first, StatusChange::Reopened).await;
    assert_eq!(lists.all_ended(10).await, [second]);
    assert_eq!(lists.ended(seen, 10).await, []);
    lists.end(first).await;
    lists.settle().await;
    assert_eq!(lists.all_ended(10).await, [second, first]);
    let again = lists.ended(seen, 10).await;
    assert_eq!((runs(&again), again[0].status), (vec![first], Some(RunStatus::Succeeded)));
}

/// Whoever always goes on from the last end misses none, though ends come in the same millisecond as looks.
async fn ends_that_come_while_they_are_read_are_told_once(fixture: Fixture) {
    const RUNS: u64 = 90;
    let lists = Lists::new(fixture).await;
    for number in 0..RUNS {
        lists.create(number, "default", "churn").await;
    }
    let (mut told, mut after) = (Vec::new(), begin());
    for number in (0..RUNS).rev() {
        lists.end(run_of(number)).await;
        if number % 7 == 0 {
            lists.settle().await;
        }
        for record in lists.ended(after, 4).await {
            after = place(&record);
            told.push(record.run);
        }
    }
    lists.settle().await;
    loop {
        let page = lists.ended(after, 4).await;
        let Some(last) = page.last() else { break };
        after = place(last);
        told.extend(runs(&page));
    }
    let once: BTreeSet<RunId> = told.iter().copied().collect();
    assert_eq!((told.len(), once), (RUNS as usize, (0..RUNS).map(run_of).collect()));
}
