//! A search from its first trial to its winner.
//!
//! # The same seed, the same winner
//!
//! What is tried next depends on what came before, and with several workers what came before depends on who was
//! faster. So decisions aren't made in the order in which outcomes arrive but in that of an imagined run:
//! `in_flight` imagined workers, each of which takes as long for a job as the job costs (its resource under
//! halving, else 1). When an imagined worker ends a job, the outcome of that job counts from there on, and
//! the next job is decided at once. If that outcome hasn't been told yet, the decision waits for it; what is
//! told before its imagined turn is kept until then. **Invariant:** the list of jobs is a function of space,
//! settings and each job's outcome alone, whatever the number of real workers and the order of arrival.
//!
//! Without halving this means that trial `k` is proposed from the outcomes of the trials up to `k - in_flight`. With
//! halving, a long job on a high rung stands in nobody's way: while it runs, the imagined others end many
//! short ones. Real workers never wait when their jobs take as long as they cost. `in_flight` above the number of
//! workers gives room for jobs that take longer, and decides on a little less: with durations that scatter by a
//! factor of two (log-normal, 0.7), two to four workers are busy some 60 to 80 % of the time with `in_flight` at
//! their number, 91 to 98 % with twice that, and 96 to 100 % with four times.
//!
//! A study is serialised as its space, its settings and the outcomes told; reading makes the decisions anew. Keep it
//! as MessagePack: `serde_json` without `float_roundtrip` may read a score as the number next to it, and from
//! there on other trials may follow.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::assignment::Assignment;
use super::grid;
use super::halving::{Halving, Ladder};
use super::space::{Complaints, Invalid, Space};
use super::tpe::{Seen, Tpe};
use crate::chance::Chance;

/// Trials of a study at the most: each proposal looks at all trials before it.
pub const TRIALS_MAX: u32 = 10_000;
/// Jobs decided ahead at the most: more workers than this on one study decide on next to nothing.
pub const IN_FLIGHT_MAX: u32 = 1_000;
/// So often is a proposal that was tried already made anew; from the half of it at random.
const ATTEMPTS: u64 = 32;
/// The part of a seed that orders the points of a grid.
const GRID_STREAM: u64 = 0x67_7269_6464;

/// Which scores are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Larger,
    Smaller,
    NearerToZero,
}

impl Better {
    /// The score as a loss, of which less is better.
    pub fn loss(self, score: f64) -> f64 {
        match self {
            Better::Larger => -score,
            Better::Smaller => score,
            Better::NearerToZero => score.abs(),
        }
    }
}

/// How trials are proposed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Each independent of all others.
    Random,
    /// All points, in an order by the seed. Numbers with more than `points` values take that many.
    Grid { points: u32 },
    /// From what came of those before.
    Tpe(Tpe),
}

/// What a study is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub seed: u64,
    /// So many trials are started at most; fewer when the space has no more points.
    pub trials: u32,
    pub better: Better,
    /// Jobs that are out at the same time at most: best two to four times the number of workers. Part of what
    /// decides, like the seed.
    #[serde(default = "in_flight")]
    pub in_flight: u32,
    #[serde(default = "tpe")]
    pub sampler: Sampler,
    /// Trials start small and the best go on; without it every trial is one job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halving: Option<Halving>,
    /// Units of the resource that all jobs together may cost; without halving a trial costs 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<u64>,
}

/// Twice the workers of most studies.
fn in_flight() -> u32 {
    8
}

fn tpe() -> Sampler {
    Sampler::Tpe(Tpe::default())
}

impl Settings {
    fn check(&self) -> Result<(), Invalid> {
        let mut complaints = Complaints::default();
        if self.trials == 0 || self.trials > TRIALS_MAX {
            complaints.add("trials", format!("is 1 to {TRIALS_MAX}, not {}", self.trials));
        }
        if self.in_flight == 0 || self.in_flight > IN_FLIGHT_MAX {
            complaints.add("in_flight", format!("is 1 to {IN_FLIGHT_MAX}, not {}", self.in_flight));
        }
        match &self.sampler {
            Sampler::Random => {}
            Sampler::Grid { points } if *points < 2 => {
                complaints.add("sampler.grid.points", format!("is at least 2, not {points}"));
            }
            Sampler::Grid { .. } => {}
            Sampler::Tpe(tpe) => tpe.check(&mut complaints),
        }
        if let Some(halving) = &self.halving {
            halving.check(&mut complaints);
        }
        complaints.result()
    }
}

/// One piece of work: a trial up to a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Counted from 0 in the order of decisions.
    pub number: u32,
    pub trial: u32,
    pub assignment: Assignment,
    /// 0 without halving.
    pub rung: u32,
    /// What the trial gets in all, in the units of [`Halving`]; none without halving.
    pub resource: Option<u64>,
    /// The job in which the trial got its resource before.
    pub after: Option<u32>,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A score that isn't finite counts as a failure.
    Score(f64),
    /// Given up on the way as hopeless. Better than a failure, worse than any score, and never a winner.
    Pruned { score: Option<f64>, reason: String },
    /// Worse than all else.
    Failed { reason: String },
}

/// What a worker that asks gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask<'a> {
    Run(&'a Job),
    /// Not decided before the outcome of this job is told.
    Wait {
        on: u32,
    },
    /// There is no job of this number and there will be none.
    Over,
}

/// How an outcome was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    New,
    /// This job's outcome was told before, and that one stays.
    Known,
}

/// Why an outcome wasn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    #[error("an outcome was told of job {number}, and only {decided} jobs have been decided")]
    Undecided { number: u32, decided: u32 },
}

/// A trial as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub number: u32,
    pub assignment: Assignment,
    /// Resource (1 without halving) and score of each of its jobs that was scored, rising by resource.
    pub scores: Vec<(u64, f64)>,
    pub state: TrialState,
}

/// Where a trial is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialState {
    /// This job of it is decided and not told.
    Running {
        job: u32,
    },
    /// All its jobs are scored; under halving it may yet go on.
    Scored,
    Pruned {
        reason: String,
    },
    Failed {
        reason: String,
    },
}

/// A search.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "StudyText", into = "StudyText")]
pub struct Study {
    space: Space,
    settings: Settings,
    /// Rising; a single 1 without halving.
    rungs: Vec<u64>,
    /// The trials of a grid, or of a space that is visited whole.
    points: Option<Vec<Assignment>>,
    told: BTreeMap<u32, Outcome>,
    trials: Vec<Assignment>,
    jobs: Vec<Job>,
    /// Jobs that the imagined workers have, by when they end.
    imagined: BTreeSet<(u64, u32)>,
    /// The imagined time.
    time: u64,
    /// What all decided jobs cost.
    spent: u64,
    ladder: Ladder,
    /// The standing of each trial that ended a job in the imagined run.
    standings: BTreeMap<u32, Standing>,
}

/// How good a trial is: scored before pruned before failed, higher rungs first, then less loss.
#[derive(Clone, Copy, Debug)]
struct Standing {
    class: u8,
    rung: u32,
    loss: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyText {
    space: Space,
    settings: Settings,
    outcomes: Vec<(u32, Outcome)>,
}

impl From<Study> for StudyText {
    fn from(study: Study) -> StudyText {
        StudyText { space: study.space, settings: study.settings, outcomes: study.told.into_iter().collect() }
    }
}

impl TryFrom<StudyText> for Study {
    type Error = String;

    fn try_from(text: StudyText) -> Result<Study, String> {
        let mut study = Study::new(text.space, text.settings).map_err(|error| error.to_string())?;
        // Rising numbers replay, since a job is decided from outcomes of jobs before it.
        let outcomes: BTreeMap<u32, Outcome> = text.outcomes.into_iter().collect();
        for (job, outcome) in outcomes {
            study.tell(job, outcome).map_err(|error| error.to_string())?;
        }
        Ok(study)
    }
}

impl Study {
    /// A study without outcomes, its first jobs decided. The error lists all that is wrong with the settings.
    pub fn new(space: Space, settings: Settings) -> Result<Study, Invalid> {
        settings.check()?;
        let values_max = if let Sampler::Grid { points } = settings.sampler { points } else { u32::MAX };
        let grid_max =
            if matches!(settings.sampler, Sampler::Grid { .. }) { grid::POINTS_MAX } else { settings.trials as usize };
        let mut points = grid::points(&space, values_max, grid_max);
        if points.is_none() && matches!(settings.sampler, Sampler::Grid { .. }) {
            let mut complaints = Complaints::default();
            let text = format!("gives a grid of more than {} points; lower it, or search at random", grid::POINTS_MAX);
            complaints.add("sampler.grid.points", text);
            complaints.result()?;
        }
        if let Some(points) = &mut points {
            Chance::stream(settings.seed, &[GRID_STREAM]).shuffle(points);
        }
        let rungs = settings.halving.as_ref().map_or_else(|| vec![1], Halving::rungs);
        let ladder = Ladder::new(rungs.len(), settings.halving.as_ref().map_or(2, |halving| halving.eta));
        let mut study = Study {
            space,
            settings,
            rungs,
            points,
            told: BTreeMap::new(),
            trials: Vec::new(),
            jobs: Vec::new(),
            imagined: BTreeSet::new(),
            time: 0,
            spent: 0,
            ladder,
            standings: BTreeMap::new(),
        };
        study.decide_all();
        Ok(study)
    }

    pub fn space(&self) -> &Space {
        &self.space
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The job of this number. Asking changes nothing and may be repeated, also of jobs that are told; workers
    /// take the numbers from 0 on in turn.
    pub fn ask(&self, number: u32) -> Ask<'_> {
        match (self.jobs.get(number as usize), self.imagined.first()) {
            (Some(job), _) => Ask::Run(job),
            (None, Some((_, on))) => Ask::Wait { on: *on },
            (None, None) => Ask::Over,
        }
    }

    /// Takes the outcome of a job and decides what it makes possible. The first outcome of a job counts.
    pub fn tell(&mut self, number: u32, outcome: Outcome) -> Result<Told, TellError> {
        let decided = self.jobs.len() as u32;
        if number >= decided {
            return Err(TellError::Undecided { number, decided });
        }
        if self.told.contains_key(&number) {
            return Ok(Told::Known);
        }
        let outcome = match outcome {
            Outcome::Score(score) if !score.is_finite() => {
                Outcome::Failed { reason: format!("its score is `{score}`, which is no number to compare") }
            }
            Outcome::Pruned { score: Some(score), reason } if !score.is_finite() => {
                Outcome::Pruned { score: None, reason }
            }
            other => other,
        };
        self.told.insert(number, outcome);
        self.decide_all();
        Ok(Told::New)
    }

    /// All jobs decided so far, in order.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// What was told of a job.
    pub fn outcome(&self, number: u32) -> Option<&Outcome> {
        self.told.get(&number)
    }

    /// Jobs that are decided and not told: what is out, or was lost and has to be run again.
    pub fn open(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| !self.told.contains_key(&job.number))
    }

    /// Whether all jobs are told and no more will come.
    pub fn is_over(&self) -> bool {
        self.imagined.is_empty()
    }

    /// What the decided jobs cost, in units of the resource.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// All trials as they stand, in order.
    pub fn trials(&self) -> Vec<Trial> {
        let mut trials: Vec<Trial> = (0..)
            .zip(&self.trials)
            .map(|(number, assignment)| Trial {
                number,
                assignment: assignment.clone(),
                scores: Vec::new(),
                state: TrialState::Scored,
            })
            .collect();
        for job in &self.jobs {
            let trial = &mut trials[job.trial as usize];
            trial.state = match self.told.get(&job.number) {
                None => TrialState::Running { job: job.number },
                Some(Outcome::Score(score)) => {
                    trial.scores.push((job.resource.unwrap_or(1), *score));
                    TrialState::Scored
                }
                Some(Outcome::Pruned { reason, .. }) => TrialState::Pruned { reason: reason.clone() },
                Some(Outcome::Failed { reason }) => TrialState::Failed { reason: reason.clone() },
            };
        }
        trials
    }

    /// The best trial of those told: of the trials with the largest resource that any was scored with, the one
    /// with the best score there; of equal ones the earliest. Trials that were pruned or failed can't win.
    pub fn winner(&self) -> Option<Trial> {
        let best = |trial: &Trial| {
            let (resource, score) = *trial.scores.last()?;
            let eligible = matches!(trial.state, TrialState::Scored | TrialState::Running { .. });
            eligible.then(|| (resource, self.settings.better.loss(score)))
        };
        let ranked = self.trials().into_iter().filter_map(|trial| best(&trial).map(|rank| (rank, trial)));
        ranked
            .min_by(|((r1, l1), a), ((r2, l2), b)| r2.cmp(r1).then(l1.total_cmp(l2)).then(a.number.cmp(&b.number)))
            .map(|(_, trial)| trial)
    }

    /// Lets the imagined run go on until it needs an outcome that isn't told.
    fn decide_all(&mut self) {
        loop {
            while self.imagined.len() < self.settings.in_flight as usize && self.decide() {}
            let Some(&(end, number)) = self.imagined.first() else { return };
            let Some(outcome) = self.told.get(&number) else { return };
            let outcome = outcome.clone();
            self.imagined.remove(&(end, number));
            self.time = end;
            self.count(number, &outcome);
        }
    }

    /// An imagined worker ended a job.
    fn count(&mut self, number: u32, outcome: &Outcome) {
        let job = &self.jobs[number as usize];
        let loss = |score: f64| self.settings.better.loss(score);
        let (class, loss) = match outcome {
            Outcome::Score(score) => (0, loss(*score)),
            Outcome::Pruned { score, .. } => (1, score.map_or(f64::INFINITY, loss)),
            Outcome::Failed { .. } => (2, f64::INFINITY),
        };
        self.standings.insert(job.trial, Standing { class, rung: job.rung, loss });
        self.ladder.add(job.rung as usize, job.trial, if class == 0 { loss } else { f64::INFINITY });
    }

    /// Decides one more job for an imagined worker that is free: a trial that goes on, or else a new one.
    /// Says whether there was one.
    fn decide(&mut self) -> bool {
        if let Some((trial, rung)) = self.ladder.candidate()
            && self.fits(rung)
        {
            self.ladder.promote(trial, rung);
            let after = self.jobs.iter().rev().find(|job| job.trial == trial).map(|job| job.number);
            self.start(trial, rung, after);
            return true;
        }
        let limit = self.points.as_ref().map_or(usize::MAX, Vec::len).min(self.settings.trials as usize);
        if self.trials.len() >= limit || !self.fits(0) {
            return false;
        }
        let assignment = self.propose();
        self.trials.push(assignment);
        self.start(self.trials.len() as u32 - 1, 0, None);
        true
    }

    fn fits(&self, rung: usize) -> bool {
        self.settings.resource.is_none_or(|resource| self.spent.saturating_add(self.cost(rung)) <= resource)
    }

    fn cost(&self, rung: usize) -> u64 {
        self.settings.halving.as_ref().map_or(1, |halving| halving.cost(&self.rungs, rung))
    }

    fn start(&mut self, trial: u32, rung: usize, after: Option<u32>) {
        let number = self.jobs.len() as u32;
        let resource = self.settings.halving.as_ref().map(|_| self.rungs[rung]);
        let assignment = self.trials[trial as usize].clone();
        self.jobs.push(Job { number, trial, assignment, rung: rung as u32, resource, after });
        let cost = self.cost(rung);
        self.spent = self.spent.saturating_add(cost);
        self.imagined.insert((self.time.saturating_add(cost), number));
    }

    /// A new trial, other than all before it if some attempts find one.
    fn propose(&self) -> Assignment {
        let number = self.trials.len();
        if let Some(points) = &self.points {
            return points[number].clone();
        }
        let seen = |number: u32| Seen { trial: number, assignment: &self.trials[number as usize] };
        let mut standings: Vec<(u32, Standing)> = self.standings.iter().map(|(number, at)| (*number, *at)).collect();
        standings.sort_by(|(a, x), (b, y)| {
            x.class.cmp(&y.class).then(y.rung.cmp(&x.rung)).then(x.loss.total_cmp(&y.loss)).then(a.cmp(b))
        });
        let ranked: Vec<Seen> = standings.iter().map(|(number, _)| seen(*number)).collect();
        let open: Vec<Seen> =
            (0..number as u32).filter(|number| !self.standings.contains_key(number)).map(seen).collect();
        let attempt = |attempt: u64| {
            let stream = number as u64 * ATTEMPTS + attempt;
            match &self.settings.sampler {
                Sampler::Tpe(tpe) if attempt < ATTEMPTS / 2 => {
                    tpe.propose(&self.space, &ranked, &open, self.settings.seed, stream)
                }
                Sampler::Tpe(_) | Sampler::Random | Sampler::Grid { .. } => {
                    self.space.sample(self.settings.seed, stream)
                }
            }
        };
        let first = attempt(0);
        if !self.trials.contains(&first) {
            return first;
        }
        (1..ATTEMPTS).map(attempt).find(|other| !self.trials.contains(other)).unwrap_or(first)
    }
}
