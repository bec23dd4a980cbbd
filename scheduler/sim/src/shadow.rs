//! A run as its facts tell it, kept by other code than the core's: what the checker compares with.
//!
//! It knows less than the core. After a resume, which readies what hasn't succeeded by rules of its own, it
//! only checks what holds for any run.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::AttemptRef;
use gristmill_protocol::fact::{Cause, Fact, Next};
use gristmill_protocol::message::{Expansion, Items, OnFailure};
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::Plan;

use crate::work::{ItemId, output_of};

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    plan: Option<Plan>,
    tasks: Vec<Task>,
    expansions: Vec<Grown>,
    pub cancelling: bool,
    pub ended: bool,
    resumed: bool,
    /// Attempts that are out, by task.
    pub out: BTreeMap<u32, u16>,
    /// Tasks whose success is recorded.
    pub settled: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
struct Task {
    step: u16,
    place: Place,
    state: State,
    attempt: u16,
    output: Vec<u8>,
    /// What each attempt's work gives, by what was put into it.
    expected: Vec<(u16, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Place {
    Root,
    Child { expansion: usize, at: u32 },
    Join { expansion: usize },
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not out: before the first attempt, or between two.
    Idle,
    Out,
    Expanded,
    Done,
    Failed,
    Rejected,
    Skipped,
    Dropped,
}

impl State {
    fn has_ended(self) -> bool {
        !matches!(self, State::Idle | State::Out | State::Expanded)
    }
}

#[derive(Clone, Debug)]
struct Grown {
    parent: u32,
    first: u32,
    count: u32,
    halted: bool,
    expansion: Expansion,
}

impl Grown {
    fn join(&self) -> u32 {
        self.first + self.count
    }
}

impl Shadow {
    /// Whether a task's step names a limit.
    pub fn is_limited(&self, task: u32) -> bool {
        let step = self.tasks.get(task as usize).map(|task| usize::from(task.step));
        step.zip(self.plan.as_ref()).is_some_and(|(step, plan)| !plan.steps[step].limits.is_empty())
    }

    /// Where a task is.
    pub fn state(&self, task: u32) -> Option<State> {
        self.tasks.get(task as usize).map(|task| task.state)
    }

    /// Whether the attempt is out by the journal.
    pub fn is_out(&self, attempt: AttemptRef) -> bool {
        self.out.get(&attempt.task.index) == Some(&attempt.attempt)
    }

    /// Whether it was ever resumed.
    pub fn was_resumed(&self) -> bool {
        self.resumed
    }

    /// The highest attempt of a task that was recorded.
    pub fn last_attempt(&self, task: u32) -> u16 {
        self.tasks.get(task as usize).map_or(0, |task| task.attempt)
    }

    fn is_open(&self) -> Result<(), String> {
        if self.ended { Err("something happens after the end".to_owned()) } else { Ok(()) }
    }

    fn task(&mut self, task: u32) -> Result<&mut Task, String> {
        self.tasks.get_mut(task as usize).ok_or_else(|| format!("there is no task {task}"))
    }

    /// Takes the next fact; says what is wrong with it.
    pub fn apply(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Created { plan, .. } => {
                if self.plan.is_some() {
                    return Err("the run is created twice".to_owned());
                }
                let root = |step| Task::new(step, Place::Root);
                self.tasks = (0..plan.steps.len() as u16).map(root).collect();
                self.plan = Some(plan.clone());
            }
            Fact::Assigned { ranges, .. } => {
                self.is_open()?;
                for range in ranges {
                    for task in range.first..range.first + range.count {
                        self.assigned(task, range.attempt)?;
                    }
                }
            }
            Fact::Succeeded(column) => {
                self.is_open()?;
                for success in column.iter() {
                    self.succeeded(success.task, success.attempt, success.output)?;
                }
            }
            Fact::Expanded { task, expansion, .. } => {
                self.is_open()?;
                self.expanded(*task, expansion)?;
            }
            Fact::Ended { task, attempt, cause, next, .. } => {
                self.is_open()?;
                self.attempt_ended(*task, *attempt, cause, *next)?;
            }
            Fact::Halted { task } => {
                self.halt(*task);
            }
            Fact::Skipped { ranges } => {
                for range in ranges {
                    for task in range.first..range.first + range.count {
                        self.skipped(task)?;
                    }
                }
            }
            Fact::Cancelling { .. } => self.cancelling = true,
            Fact::Resumed { .. } => self.resume(),
            Fact::RunEnded { .. } => {
                self.is_open()?;
                if let Some((task, attempt)) = self.out.first_key_value() {
                    return Err(format!("the run ends while {task}#{attempt} is out"));
                }
                self.ended = true;
            }
        }
        Ok(())
    }

    /// Nothing more starts of a task's expansion, nor of the expansions within.
    fn halt(&mut self, task: u32) {
        let mut parents = vec![task];
        while let Some(parent) = parents.pop() {
            for grown in self.expansions.iter_mut().filter(|grown| grown.parent == parent) {
                grown.halted = true;
                let within = grown.first..grown.join() + 1;
                parents.extend(within.filter(|task| self.tasks[*task as usize].state == State::Expanded));
            }
        }
    }

    fn assigned(&mut self, task: u32, attempt: u16) -> Result<(), String> {
        let name = format!("{task}#{attempt}");
        if self.cancelling {
            return Err(format!("{name} starts in a cancelled run"));
        }
        self.check_ready(task).map_err(|why| format!("{name} is started before it is ready: {why}"))?;
        let expected = self.work_of(task);
        let this = self.task(task)?;
        if this.state != State::Idle {
            return Err(format!("{name} starts while the task is {:?}", this.state));
        }
        if attempt <= this.attempt {
            return Err(format!("{name} starts after attempt {}", this.attempt));
        }
        this.attempt = attempt;
        this.state = State::Out;
        this.expected.push((attempt, expected));
        self.out.insert(task, attempt);
        Ok(())
    }

    fn check_ready(&self, task: u32) -> Result<(), String> {
        let this = self.tasks.get(task as usize).ok_or("there is no such task")?;
        let plan = self.plan.as_ref().ok_or("the run isn't created")?;
        match this.place {
            Place::Root => {
                let step = &plan.steps[usize::from(this.step)];
                for need in &step.needs {
                    let state = self.tasks[usize::from(need.step)].state;
                    let fine = match step.when {
                        When::Success => state == State::Done,
                        When::Failure | When::Always => state.has_ended(),
                    };
                    if !fine {
                        return Err(format!("step {} is {state:?}", need.step));
                    }
                }
            }
            Place::Child { expansion, .. } => {
                if self.expansions[expansion].halted && !self.resumed {
                    return Err("its expansion is halted".to_owned());
                }
            }
            Place::Join { expansion } => {
                let grown = &self.expansions[expansion];
                for child in grown.first..grown.join() {
                    let state = self.tasks[child as usize].state;
                    if matches!(state, State::Out | State::Expanded) || (state == State::Idle && !self.resumed) {
                        return Err(format!("child {child} is {state:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// What the work of a task gives, by what is put into it as things stand.
    fn work_of(&self, task: u32) -> Vec<u8> {
        let (Some(this), Some(plan)) = (self.tasks.get(task as usize), &self.plan) else { return Vec::new() };
        match this.place {
            Place::Root => {
                let step = &plan.steps[usize::from(this.step)];
                let passed = step.needs.iter().filter(|need| need.output);
                let inputs: Vec<Option<&[u8]>> =
                    passed.map(|need| Some(&*self.tasks[usize::from(need.step)].output)).collect();
                output_of(&step.payload, None, &inputs)
            }
            Place::Child { expansion, at } => {
                let expansion = &self.expansions[expansion].expansion;
                let item = match &expansion.items {
                    Items::Inline(items) => items.get(at as usize).map(|item| ItemId::Inline(item)),
                    Items::Artifact { digest, .. } => Some(ItemId::Listed(*digest, at)),
                    Items::None => None,
                };
                output_of(&expansion.child.payload, item, &[])
            }
            Place::Join { expansion } => {
                let grown = &self.expansions[expansion];
                let output = |task: u32| {
                    let task = &self.tasks[task as usize];
                    (task.state == State::Done).then_some(&*task.output)
                };
                let inputs: Vec<Option<&[u8]>> = (grown.first..grown.join()).map(output).collect();
                output_of(&grown.expansion.join.payload, None, &inputs)
            }
        }
    }

    fn succeeded(&mut self, task: u32, attempt: u16, output: &[u8]) -> Result<(), String> {
        let as_things_stand = self.work_of(task);
        let this = self.task(task)?;
        if matches!(this.state, State::Done | State::Expanded) {
            return Err(format!("{task}#{attempt} is recorded twice: the task is {:?}", this.state));
        }
        let known = this.expected.iter().find(|(known, _)| *known == attempt).map(|(_, output)| output.clone());
        if known.unwrap_or(as_things_stand) != output {
            return Err(format!("{task}#{attempt} is recorded with an output that its work doesn't give"));
        }
        this.state = State::Done;
        this.output = output.to_vec();
        this.attempt = attempt.max(this.attempt);
        self.out.remove(&task);
        self.settled.insert(task);
        self.after_end(task);
        Ok(())
    }

    fn expanded(&mut self, task: u32, expansion: &Expansion) -> Result<(), String> {
        let first = self.tasks.len() as u32;
        let this = self.task(task)?;
        if matches!(this.state, State::Done | State::Expanded) {
            return Err(format!("{task} is expanded though the task is {:?}", this.state));
        }
        this.state = State::Expanded;
        let step = this.step;
        self.out.remove(&task);
        let (count, at) = (expansion.items.count(), self.expansions.len());
        self.expansions.push(Grown { parent: task, first, count, halted: false, expansion: expansion.clone() });
        self.tasks.extend((0..count).map(|child| Task::new(step, Place::Child { expansion: at, at: child })));
        self.tasks.push(Task::new(step, Place::Join { expansion: at }));
        Ok(())
    }

    fn attempt_ended(&mut self, task: u32, attempt: u16, cause: &Cause, next: Next) -> Result<(), String> {
        if self.out.get(&task) != Some(&attempt) {
            // A newer attempt that an older one's success made needless has been taken back.
            return if matches!(next, Next::Drop) { Ok(()) } else { Err(format!("{task}#{attempt} ends unstarted")) };
        }
        self.out.remove(&task);
        let state = match next {
            Next::Retry { .. } => State::Idle,
            Next::Fail => State::Failed,
            Next::Reject => State::Rejected,
            Next::Drop => State::Dropped,
        };
        if matches!(cause, Cause::Rejected { .. }) && !matches!(next, Next::Reject | Next::Drop) {
            return Err(format!("{task}#{attempt} was rejected and is tried again"));
        }
        self.task(task)?.state = state;
        if state.has_ended() {
            self.after_end(task);
        }
        Ok(())
    }

    fn skipped(&mut self, task: u32) -> Result<(), String> {
        let this = self.task(task)?;
        if this.state != State::Idle {
            return Err(format!("{task} is skipped though it is {:?}", this.state));
        }
        this.state = State::Skipped;
        self.after_end(task);
        Ok(())
    }

    /// What the end of a task means for what it is part of.
    fn after_end(&mut self, task: u32) {
        let mut task = task;
        loop {
            let (place, state) = (self.tasks[task as usize].place.clone(), self.tasks[task as usize].state);
            let parent = match place {
                Place::Root => return,
                Place::Join { expansion } => {
                    let parent = self.expansions[expansion].parent;
                    self.tasks[parent as usize].output = self.tasks[task as usize].output.clone();
                    self.tasks[parent as usize].state = state;
                    parent
                }
                Place::Child { expansion, .. } => {
                    let grown = &self.expansions[expansion];
                    let children = &self.tasks[grown.first as usize..grown.join() as usize];
                    if !children.iter().all(|child| child.state.has_ended()) {
                        return;
                    }
                    let count = |state| children.iter().filter(|child| child.state == state).count() as u32;
                    let failed = count(State::Failed) + count(State::Rejected);
                    let tolerated = match grown.expansion.on_failure {
                        OnFailure::Fail => 0,
                        OnFailure::Tolerate(count) => count,
                    };
                    if failed <= tolerated && !self.cancelling && !grown.halted {
                        return;
                    }
                    let state = match (count(State::Failed), count(State::Rejected)) {
                        (0, 0) => State::Dropped,
                        (0, _) => State::Rejected,
                        _ => State::Failed,
                    };
                    self.tasks[grown.parent as usize].state = state;
                    grown.parent
                }
            };
            task = parent;
        }
    }

    fn resume(&mut self) {
        self.ended = false;
        self.cancelling = false;
        self.resumed = true;
        for task in &mut self.tasks {
            if task.state != State::Done {
                task.state = State::Idle;
            }
        }
        for grown in &self.expansions {
            let parent = &mut self.tasks[grown.parent as usize];
            if parent.state != State::Done {
                parent.state = State::Expanded;
            }
        }
    }
}

impl Task {
    fn new(step: u16, place: Place) -> Task {
        Task { step, place, state: State::Idle, attempt: 0, output: Vec::new(), expected: Vec::new() }
    }
}
