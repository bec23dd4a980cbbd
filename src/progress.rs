//! A line a step while a run is under way: redrawn on a terminal, plain lines in a pipe.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use gristmill_backends::state::{Progress as TaskProgress, WorkerView};
use gristmill_protocol::RunId;
use gristmill_protocol::output::Output;
use gristmill_scheduler::history::{History, StepHistory, StepState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::follow::RunView;

/// Characters of the bar of a step that runs.
const BAR_WIDTH: usize = 16;

/// The lines of one run.
pub struct Progress {
    lines: BTreeMap<String, Line>,
    screen: Option<MultiProgress>,
    name_width: usize,
}

struct Line {
    bar: Option<ProgressBar>,
    began: Option<Instant>,
    ended: bool,
}

impl Progress {
    /// Lines for these steps, in their order.
    pub fn new(steps: &[String]) -> Progress {
        let screen = std::io::stderr().is_terminal().then(MultiProgress::new);
        let name_width = steps.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
        let line = |name: &String| {
            let bar = screen.as_ref().map(|screen| {
                let bar = screen.add(ProgressBar::new_spinner().with_style(style.clone()));
                bar.set_message(format!("  {name:name_width$}  waits"));
                bar
            });
            (name.clone(), Line { bar, began: None, ended: false })
        };
        let lines = steps.iter().map(line).collect();
        Progress { lines, screen, name_width }
    }

    /// Shows how far the steps are.
    pub fn update(&mut self, run: RunId, view: &RunView, workers: &[WorkerView]) {
        for (at, step) in view.steps.iter().enumerate() {
            let Some(line) = self.lines.get_mut(&step.name) else { continue };
            if line.ended || (step.out == 0 && step.ended == 0) || step.state.has_ended() {
                continue;
            }
            let first = line.began.is_none();
            let began = *line.began.get_or_insert_with(Instant::now);
            match &line.bar {
                Some(bar) => {
                    let of_step = |progress: &(gristmill_protocol::AttemptRef, Option<TaskProgress>)| {
                        (progress.0.run == run && progress.0.task.index as usize == at)
                            .then(|| progress.1.clone())
                            .flatten()
                    };
                    let reported = workers.iter().flat_map(|worker| &worker.held).find_map(of_step);
                    let detail = detail(step.tasks, step.ended, reported);
                    let width = self.name_width;
                    let seconds = human_seconds(began.elapsed().as_secs_f64());
                    bar.set_message(format!("▸ {:width$}  {detail}  {seconds}", step.name));
                }
                None if first => eprintln!("{:width$}  begins", step.name, width = self.name_width),
                None => {}
            }
        }
    }

    /// Shows the steps that have ended since.
    pub fn ended(&mut self, history: &History) {
        for step in &history.steps {
            let Some(line) = self.lines.get_mut(&step.name) else { continue };
            let over = !matches!(step.state, StepState::Waiting | StepState::Running | StepState::Retrying);
            if line.ended || !over {
                continue;
            }
            line.ended = true;
            let text = summary(step, self.name_width);
            match &line.bar {
                Some(bar) => bar.finish_with_message(text),
                None => eprintln!("{}", text.trim_start_matches(['✓', '✗', '·', ' '])),
            }
        }
    }

    /// Leaves the screen to others.
    pub fn finish(self) {
        if self.screen.is_some() {
            for line in self.lines.values() {
                if let Some(bar) = line.bar.as_ref().filter(|_| !line.ended) {
                    bar.finish();
                }
            }
        }
    }
}

/// How far a step that runs is.
fn detail(tasks: u32, ended: u32, reported: Option<TaskProgress>) -> String {
    let (done, total, unit) = match reported {
        Some(TaskProgress { done, total: Some(total), unit }) => (done, total, unit),
        Some(TaskProgress { done, total: None, unit }) => return format!("{} {unit}", grouped(done)),
        None if tasks > 1 => (u64::from(ended), u64::from(tasks), "tasks".to_owned()),
        None => return "runs".to_owned(),
    };
    let filled = usize::try_from(done.min(total) * BAR_WIDTH as u64 / total.max(1)).unwrap_or(BAR_WIDTH);
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR_WIDTH - filled));
    format!("{bar} {} of {} {unit}", grouped(done), grouped(total))
}

/// The line of a step that has ended.
fn summary(step: &StepHistory, width: usize) -> String {
    let mark = match step.state {
        StepState::Succeeded => "✓",
        StepState::Skipped | StepState::Cancelled => "·",
        _ => "✗",
    };
    let mut parts = Vec::new();
    if step.is_cached() {
        parts.push("same as before, no work done".to_owned());
    } else if step.state != StepState::Succeeded {
        parts.push(step.state.as_str().to_owned());
    }
    if let Some(rows) = step.rows().filter(|_| step.state == StepState::Succeeded) {
        parts.push(format!("{} rows", grouped(rows)));
    }
    parts.extend(remark(step));
    if step.tasks > 1 && !step.is_cached() {
        parts.push(format!("{} tasks", grouped(u64::from(step.tasks))));
    }
    if step.tally.attempts > 0 && !step.is_cached() {
        parts.push(human_seconds(step.seconds));
    }
    format!("{mark} {:width$}  {}", step.name, parts.join(" · "))
}

/// What is worth saying of what a step has made.
fn remark(step: &StepHistory) -> Option<String> {
    match step.output.as_ref()? {
        Output::Dataset { quarantine: Some(lines), .. } => {
            Some(format!("{} lines couldn't be read", grouped(lines.lines)))
        }
        Output::Checked { warnings, .. } if *warnings > 0 => Some(format!("{warnings} warnings")),
        Output::Model { algorithm, .. } => Some(algorithm.replace('_', " ")),
        Output::Evaluation { metrics, warnings, .. } => {
            let shown = metrics.iter().take(3).map(|(name, value)| format!("{name} {value:.4}"));
            let warned = (*warnings > 0).then(|| crate::text::counted(u64::from(*warnings), "warning"));
            Some(shown.chain(warned).collect::<Vec<_>>().join(", "))
        }
        Output::Version { name, version, alias, .. } => {
            let alias = alias.as_ref().map(|alias| format!(" is `{alias}`")).unwrap_or_default();
            Some(format!("{name} version {version}{alias}"))
        }
        Output::Scores { path, quarantine, .. } => Some(match quarantine {
            Some(rows) => format!("{path}, {} rows couldn't be scored", grouped(rows.lines)),
            None => path.clone(),
        }),
        _ => None,
    }
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as people say them.
pub fn human_seconds(seconds: f64) -> String {
    if seconds < 0.001 {
        "0 s".to_owned()
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {} s", (seconds / 60.0) as u64, (seconds % 60.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_said_as_people_do() {
        assert_eq!([0, 999, 1_000, 336_776].map(grouped), ["0", "999", "1,000", "336,776"]);
        assert_eq!([0.25, 3.12, 184.0].map(human_seconds), ["250 ms", "3.1 s", "3 min 4 s"]);
    }

    #[test]
    fn a_running_step_says_what_it_knows() {
        let progress = |done, total| Some(TaskProgress { done, total, unit: "rows".to_owned() });
        assert_eq!(detail(1, 0, None), "runs");
        assert_eq!(detail(13, 6, None), "███████░░░░░░░░░ 6 of 13 tasks");
        assert_eq!(detail(1, 0, progress(1_500, None)), "1,500 rows");
        assert_eq!(detail(1, 0, progress(5, Some(10))), "████████░░░░░░░░ 5 of 10 rows");
        assert_eq!(detail(1, 0, progress(11, Some(10))), "████████████████ 11 of 10 rows");
    }
}
