//! Lists of runs: each shard is asked for its own, all at once, and the answers are put together here.
//!
//! A shard has a list of its runs for each namespace, pipeline and status. A filter by one of these is answered from its
//! list. For several the script looks at runs of the shortest list, a bounded number at a call, so a page may be short.
//!
//! Runs that an earlier version made are in none of these lists. While a shard has such runs, filters are answered from
//! the list of all runs in the same bounded way, and each such call puts some more of them into the lists.

use gristmill_protocol::{RunId, Shard, Timestamp};

use super::codec::Read;
use super::link::Ask;
use super::scripts::{self, Call};
use super::{KEEP_MS, RedisState};
use crate::state::{RunFilter, RunPage, RunRecord, StateError, StatusFilter};

/// Runs of a shard that one call looks at when several lists have to agree: half a millisecond of the server.
const LOOKED_AT_MAX: usize = 256;
/// Runs of a shard that one call puts into lists: some milliseconds of the server.
const FILLED_AT_A_TIME: usize = 100;

/// What a shard has found.
struct Found {
    runs: Vec<RunId>,
    /// All that fits down to here is in `runs`; nothing when the shard has no more.
    place: Option<RunId>,
}

impl RedisState {
    /// One page of the runs that fit.
    pub(super) async fn page(
        &self,
        filter: &RunFilter,
        before: Option<RunId>,
        limit: usize,
    ) -> Result<RunPage, StateError> {
        let shards = self.find(filter, before, limit).await?;
        // What is older than where a shard stopped may not be all there is.
        let horizon = shards.iter().filter_map(|found| found.place).max();
        let mut runs: Vec<RunId> = shards.into_iter().flat_map(|found| found.runs).collect();
        runs.retain(|&run| horizon.is_none_or(|horizon| run >= horizon));
        runs.sort_unstable_by(|a, b| b.cmp(a));
        let next = if runs.len() > limit { runs.get(limit - 1).copied() } else { horizon };
        runs.truncate(limit);
        let mut records = self.records(&runs).await?;
        // It may have changed since it was found.
        records.retain(|record| filter.fits(record));
        Ok(RunPage { records, next })
    }

    /// Asks all shards.
    async fn find(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<Vec<Found>, StateError> {
        let verb = "list runs";
        let read = Read(verb);
        let asks = Shard::all().map(|shard| Ask::Script(self.find_call(shard, filter, before, limit))).collect();
        let (answers, _) = self.links.ask_all(verb, asks).await?;
        let (mut shards, mut fills) = (Vec::new(), Vec::new());
        for (shard, answer) in Shard::all().zip(answers) {
            let (word, mut rest) = read.answer(answer)?;
            if word == "unfilled" {
                fills.push(Ask::Script(self.on_shard(&scripts::FILL_RUNS, shard).number(FILLED_AT_A_TIME)));
            }
            let place = read.text(rest.next().unwrap_or_default())?;
            let place = if place.is_empty() { None } else { Some(place.parse().map_err(|e| read.damaged(e))?) };
            let runs = read.list(rest.next().unwrap_or_default())?.into_iter().map(|run| read.run(run));
            shards.push(Found { runs: runs.collect::<Result<_, _>>()?, place });
        }
        if !fills.is_empty() {
            self.links.ask_all("fill the lists of runs", fills).await?;
        }
        Ok(shards)
    }

    fn find_call(&self, shard: Shard, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Call {
        let status = match filter.status {
            None => "",
            Some(StatusFilter::Open) => "open",
            Some(StatusFilter::Ended(status)) => status.as_str(),
        };
        let pipeline = filter.pipeline.as_ref().map(|pipeline| format!("={pipeline}"));
        let count = filter.namespaces.as_ref().map(|namespaces| namespaces.len().to_string());
        let mut call = self
            .on_shard(&scripts::FIND_RUNS, shard)
            .arg(before.map(|run| run.to_string()).unwrap_or_default())
            // One more, which says that there is another page.
            .number(limit + 1)
            .number(LOOKED_AT_MAX)
            .arg(status)
            .arg(pipeline.unwrap_or_default())
            .arg(count.unwrap_or_default());
        for namespace in filter.namespaces.iter().flatten() {
            call.push(namespace.as_bytes());
        }
        call
    }

    /// Runs that ended after a place.
    pub(super) async fn ended_after(
        &self,
        (time, run): (Timestamp, RunId),
        limit: usize,
    ) -> Result<Vec<RunRecord>, StateError> {
        let verb = "list ended runs";
        let read = Read(verb);
        let asks = Shard::all().map(|shard| {
            let call = self.on_shard(&scripts::ENDED_RUNS, shard).number(time.0).arg(run.to_string());
            Ask::Script(call.number(limit).number(KEEP_MS))
        });
        let (answers, _) = self.links.ask_all(verb, asks.collect()).await?;
        let mut ends: Vec<(Timestamp, RunId)> = Vec::new();
        let mut until = Timestamp(u64::MAX);
        for answer in answers {
            let mut answer = read.list(answer)?.into_iter();
            // Shards are asked one after another: what ended since the first answer may lack ends of that shard.
            until = until.min(Timestamp(read.number(answer.next().unwrap_or_default())?));
            while let (Some(run), Some(end)) = (answer.next(), answer.next()) {
                ends.push((Timestamp(read.number(end)?), read.run(run)?));
            }
        }
        ends.retain(|&(time, _)| time < until);
        ends.sort_unstable();
        ends.truncate(limit);
        let runs: Vec<RunId> = ends.iter().map(|&(_, run)| run).collect();
        let mut records = self.records(&runs).await?;
        // One that was opened again since is told when it ends again.
        records.retain(|record| record.ended.is_some_and(|ended| ends.binary_search(&(ended, record.run)).is_ok()));
        Ok(records)
    }

    /// The records of runs, without those whose days are over.
    async fn records(&self, runs: &[RunId]) -> Result<Vec<RunRecord>, StateError> {
        let verb = "list runs";
        let asks = runs.iter().map(|&run| Ask::Command(self.record_command(run))).collect();
        let (found, _) = self.links.ask_all(verb, asks).await?;
        let mut records = Vec::new();
        for (&run, record) in runs.iter().zip(found) {
            records.extend(Read(verb).record(run, record)?);
        }
        Ok(records)
    }
}
