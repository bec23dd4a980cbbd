//! `cost`, `costs`, `budgets`, `pools` and `sizing`: what runs cost, what is left of budgets, and how large workers should be.

use std::fmt::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};
use gristmill_protocol::Timestamp;
use gristmill_protocol::api::{BudgetItem, CostGroup, Costs, PoolItem, RunCost, Sizing};
use gristmill_protocol::limits::COST_DAYS_MAX;
use gristmill_scheduler::budgets::{self, DAY_MS, told};
use gristmill_scheduler::history::{Folding, read_facts};
use gristmill_scheduler::pools::pools as told_pools;
use serde::Serialize;

use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::text::{self, Table};

/// `gristmill cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// The run: its id or the last digits of it. Default: the newest.
    pub run: Option<String>,
    /// What is summed up.
    #[arg(long, default_value = "step")]
    pub by: RunCostBy,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What the cost of one run is summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunCostBy {
    Step,
    Pool,
}

/// `gristmill costs`.
#[derive(Debug, Args)]
pub struct CostsArgs {
    /// How far back: `7d`, `4w`. Days are those of UTC, today included.
    #[arg(long, default_value = "7d", value_parser = days, value_name = "DAYS")]
    pub since: u64,
    /// What is summed up.
    #[arg(long, default_value = "pipeline")]
    pub by: CostsBy,
    /// Runs of this namespace alone.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What costs are summed up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CostsBy {
    Pipeline,
    Namespace,
    Pool,
    Step,
    Model,
}

/// `gristmill sizing`.
#[derive(Debug, Args)]
pub struct SizingArgs {
    /// The pool.
    #[arg(default_value = "default")]
    pub pool: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `gristmill pools` and `gristmill budgets`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `gristmill cost`.
pub async fn cost(settings: &Settings, args: CostArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    let record = home.state.run(run).await?.context("the run is gone")?;
    let mut folding = Folding::new(run);
    read_facts(&*home.state, run, |fact| folding.push(fact)).await?;
    let (prices, now) = (budgets::prices(&*home.state).await?, home.state.clock().await?.now);
    let cost = told::run_cost(&record, &folding.finish()?, &folding, &prices, now);
    print(args.json, &cost, || run_text(&cost, args.by))
}

/// `gristmill costs`.
pub async fn costs(settings: &Settings, args: CostsArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let now = home.state.clock().await?.now;
    let today = now.0 / DAY_MS;
    let by = match args.by {
        CostsBy::Pipeline => CostGroup::Pipeline,
        CostsBy::Namespace => CostGroup::Namespace,
        CostsBy::Pool => CostGroup::Pool,
        CostsBy::Step => CostGroup::Step,
        CostsBy::Model => CostGroup::Model,
    };
    let is_seen = |name: &str| args.namespace.as_deref().is_none_or(|wanted| wanted == name);
    let costs = told::costs(&*home.state, today.saturating_sub(args.since - 1), today, by, is_seen).await?;
    print(args.json, &costs, || costs_text(&costs, now))
}

/// `gristmill budgets`.
pub async fn budgets(settings: &Settings, args: ListArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let documents = budgets::budgets(&*home.state).await?;
    let items: Vec<BudgetItem> = documents.into_iter().map(told::budget).collect();
    let now = home.state.clock().await?.now;
    print(args.json, &items, || budgets_text(&items, now))
}

/// `gristmill sizing`.
pub async fn sizing(settings: &Settings, args: SizingArgs) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let sizing = told::sizing(&*home.state, &args.pool).await?;
    print(args.json, &sizing, || sizing_text(&sizing))
}

/// `gristmill pools`.
pub async fn pools(settings: &Settings, args: ListArgs) -> anyhow::Result<Exit> {
    if !settings.is_distributed() {
        let problem = Problem::usage("there are no pools here: one process does all the work");
        return Err(problem.hint("pools are on servers: set `GRISTMILL_STATE` and the others").into());
    }
    let home = Home::read(settings).await?;
    let named: Vec<&str> = settings.pools.keys().map(String::as_str).collect();
    let pools = told_pools(&*home.state, &named).await?;
    print(args.json, &pools, || pools_text(&pools))
}

fn print<T: Serialize>(json: bool, value: &T, as_text: impl FnOnce() -> String) -> anyhow::Result<Exit> {
    if json {
        println!("{}", serde_json::to_string_pretty(value).context("failed to print JSON")?);
    } else {
        print!("{}", as_text());
    }
    Ok(Exit::Success)
}

/// Days as they are written: `7d`, `4w`.
fn days(text: &str) -> Result<u64, String> {
    let wrong = || format!("write a number of days or weeks, as `7d` or `4w`, up to {COST_DAYS_MAX}d");
    let (number, unit) = match text.strip_suffix('w') {
        Some(weeks) => (weeks, 7),
        None => (text.strip_suffix('d').ok_or_else(wrong)?, 1),
    };
    let days = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    days.filter(|days| (1..=COST_DAYS_MAX).contains(days)).ok_or_else(wrong)
}

fn pools_text(pools: &[PoolItem]) -> String {
    if pools.is_empty() {
        return "no pool is served or waited for\nhint: `gristmill worker` or `gristmill up` serves one\n".to_owned();
    }
    let mut table = Table::new(&["pool", ">workers", ">slots", ">busy", ">ready", ">out", ">work", "decided"]);
    for pool in pools {
        table.row([
            pool.name.clone(),
            text::count(u64::from(pool.workers)),
            text::count(u64::from(pool.slots)),
            text::count(u64::from(pool.busy)),
            text::count(pool.ready),
            text::count(pool.out),
            slot_time(pool.work_ms),
            decided(pool),
        ]);
    }
    table.to_string()
}

/// What those who scale the pool have decided.
fn decided(pool: &PoolItem) -> String {
    let told = pool.decisions.iter().map(|one| format!("{} by {}: {}", one.wanted, one.by, one.why));
    let told: Vec<String> = told.collect();
    if told.is_empty() { "–".to_owned() } else { told.join("; ") }
}

/// An amount, or a dash where a pool has no price.
fn money(amount: Option<f64>) -> String {
    amount.map_or_else(|| "–".to_owned(), text::number)
}

fn slot_time(ms: u64) -> String {
    text::seconds(ms as f64 / 1e3)
}

const NO_PRICES: &str = "hint: `[prices]` in the scheduler's gristmill.toml says what slots cost\n";

fn run_text(cost: &RunCost, by: RunCostBy) -> String {
    let currency = cost.currency.as_deref().unwrap_or_default();
    let so_far = if cost.ended { "" } else { " so far" };
    let mut out = match cost.currency {
        Some(_) => format!("{} {} cost {} {currency}{so_far}", cost.pipeline, cost.run, text::number(cost.amount)),
        None => format!("{} {} took {} of slots{so_far}", cost.pipeline, cost.run, slot_time(cost.slot_ms)),
    };
    if cost.wasted_ms > 0 {
        let share = text::percent(cost.wasted_ms as f64 / cost.slot_ms.max(1) as f64);
        write!(out, "; {} ({share}) brought nothing", slot_time(cost.wasted_ms)).expect("writing to memory");
    }
    out += "\n\n";
    let table = match by {
        RunCostBy::Step => {
            let mut table = Table::new(&["step", "pool", ">attempts", ">cached", ">slot time", ">cost", ">wasted"]);
            for step in &cost.steps {
                table.row([
                    step.step.clone(),
                    step.pool.clone(),
                    text::count(step.attempts),
                    text::count(step.cached),
                    slot_time(step.slot_ms),
                    money(step.amount),
                    money(step.wasted),
                ]);
            }
            table
        }
        RunCostBy::Pool => {
            let mut table = Table::new(&["pool", ">slot time", ">cost", ">wasted"]);
            for pool in &cost.pools {
                table.row([pool.pool.clone(), slot_time(pool.slot_ms), money(pool.amount), money(pool.wasted)]);
            }
            table
        }
    };
    out += &table.to_string();
    if cost.currency.is_none() {
        out += NO_PRICES;
    } else if cost.unpriced_ms > 0 {
        writeln!(out, "{} ran in pools without a price", slot_time(cost.unpriced_ms)).expect("writing to memory");
    }
    out
}

fn costs_text(costs: &Costs, now: Timestamp) -> String {
    let Some(counted) = costs.counted_until_ms else {
        return "no run was counted yet\nhint: a scheduler counts runs as they end\n".to_owned();
    };
    let currency = costs.currency.as_deref().unwrap_or_default();
    let days = (costs.until_ms - costs.from_ms) / DAY_MS;
    let mut out = format!("{} {currency} in {}, ", text::number(costs.amount), text::counted(days, "day"));
    let last = text::ago(Timestamp(counted), now);
    writeln!(out, "{} of it wasted; the last run counted ended {last}\n", text::number(costs.wasted))
        .expect("writing to memory");
    let by = match costs.by {
        CostGroup::Pipeline => "pipeline",
        CostGroup::Namespace => "namespace",
        CostGroup::Pool => "pool",
        CostGroup::Step => "step",
        CostGroup::Model => "model",
    };
    let mut table = Table::new(&[by, ">attempts", ">slot time", ">cost", ">wasted"]);
    for item in &costs.items {
        table.row([
            item.name.clone(),
            text::count(item.attempts),
            slot_time(item.slot_ms),
            text::number(item.amount),
            text::number(item.wasted),
        ]);
    }
    out += &table.to_string();
    if costs.left_out > 0 {
        writeln!(out, "and {} more", text::count(costs.left_out as u64)).expect("writing to memory");
    }
    if costs.currency.is_none() {
        out += NO_PRICES;
    }
    out
}

fn budgets_text(budgets: &[BudgetItem], now: Timestamp) -> String {
    if budgets.is_empty() {
        return "there are no budgets\nhint: `[budgets.NAME]` in the scheduler's gristmill.toml sets one\n".to_owned();
    }
    let mut table = Table::new(&["budget", "of", "period", ">spent", ">amount", ">share", "at the limit", "looked at"]);
    for budget in budgets {
        let of = match (&budget.namespace, &budget.pipeline, &budget.run) {
            (_, _, Some(run)) => run.to_string(),
            (Some(namespace), _, _) => format!("namespace {namespace}"),
            (_, Some(pipeline), _) => format!("pipeline {pipeline}"),
            (None, None, None) => "everything".to_owned(),
        };
        let currency = budget.currency.as_deref().unwrap_or_default();
        table.row([
            budget.name.clone(),
            of,
            budget.period.clone(),
            text::number(budget.spent),
            format!("{} {currency}", text::number(budget.amount)),
            text::percent(budget.ratio),
            if budget.stops { "stop" } else { "warn" }.to_owned(),
            text::ago(Timestamp(budget.looked_ms), now),
        ]);
    }
    table.to_string()
}

fn sizing_text(sizing: &Sizing) -> String {
    let mut out = match sizing.slots {
        Some(slots) => {
            let memory = sizing.memory_mib.map(|mib| format!(" and {mib} MiB")).unwrap_or_default();
            let slots = text::counted(u64::from(slots), "slot");
            format!("{}: {slots}{memory} for each worker ({})\n", sizing.pool, sizing.confidence)
        }
        None => format!("{}: {}\n", sizing.pool, sizing.confidence),
    };
    for reason in &sizing.reasons {
        writeln!(out, "  {reason}").expect("writing to memory");
    }
    if let Some(wait) = sizing.mean_wait_ms {
        writeln!(out, "  tasks waited {} for a slot on average in the last seven days", text::seconds(wait / 1e3))
            .expect("writing to memory");
    }
    if !sizing.steps.is_empty() {
        let mut table =
            Table::new(&["step", ">tasks", ">time p50", ">time p95", ">cores p95", ">memory p99", ">with neighbours"]);
        let kib = |kib: Option<u64>| kib.map_or_else(|| "–".to_owned(), |kib| text::bytes(kib.saturating_mul(1_024)));
        for step in &sizing.steps {
            table.row([
                step.step.clone(),
                text::count(step.tasks),
                text::seconds(step.wall_ms_p50 / 1e3),
                text::seconds(step.wall_ms_p95 / 1e3),
                text::number(step.cores_p95),
                kib(step.peak_kib_p99_alone),
                kib(step.peak_kib_p99_shared),
            ]);
        }
        write!(out, "\n{table}").expect("writing to memory");
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use gristmill_protocol::RunId;
    use gristmill_protocol::api::{PoolCost, ScaleDecision, StepCost};

    use super::*;

    #[test]
    fn days_and_weeks_are_understood() {
        assert_eq!(["1d", "7d", "4w", "400d"].map(days), [Ok(1), Ok(7), Ok(28), Ok(400)]);
        for wrong in ["", "7", "d", "0d", "401d", "-1d", "7 days", "99999999999999999999w"] {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_runs_cost_is_told_by_step_with_what_was_wasted() {
        let step = |name: &str, amount: Option<f64>, wasted_ms: u64| StepCost {
            step: name.to_owned(),
            pool: "default".to_owned(),
            attempts: 2,
            cached: 0,
            slot_ms: 4_000,
            wasted_ms,
            running_ms: 0,
            amount,
            wasted: amount.map(|_| 0.5),
        };
        let cost = RunCost {
            run: RunId::from_u128(7),
            pipeline: "nightly".to_owned(),
            namespace: "default".to_owned(),
            ended: true,
            currency: Some("EUR".to_owned()),
            amount: 2.0,
            wasted: 0.5,
            slot_ms: 8_000,
            wasted_ms: 1_000,
            unpriced_ms: 4_000,
            steps: vec![step("train", Some(2.0), 1_000), step("score", None, 0)],
            pools: vec![PoolCost { pool: "default".to_owned(), slot_ms: 8_000, amount: None, wasted: None }],
        };
        let text = run_text(&cost, RunCostBy::Step);
        assert!(text.contains("cost 2 EUR; "), "{text}");
        assert!(text.contains("(12.5%) brought nothing"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("score") && line.contains('–')), "{text}");
        assert!(text.contains("ran in pools without a price"), "{text}");
        assert!(run_text(&cost, RunCostBy::Pool).lines().any(|line| line.starts_with("default")));
    }

    #[test]
    fn pools_are_listed_with_their_backlog() {
        let decision = ScaleDecision {
            by: "mill".to_owned(),
            at_ms: 0,
            wanted: 4,
            min: 0,
            max: 8,
            why: "42 s of work".to_owned(),
            paid_ms: None,
            lost: None,
        };
        let pool = PoolItem {
            name: "default".to_owned(),
            workers: 2,
            slots: 8,
            busy: 3,
            demand: 1_200,
            ready: 1_190,
            out: 10,
            work_ms: 42_000,
            unknown: 0,
            decisions: vec![decision],
        };
        expect![[r#"
            pool     workers  slots  busy  ready  out    work  decided
            default        2      8     3  1,190   10  42.0 s  4 by mill: 42 s of work
        "#]]
        .assert_eq(&pools_text(&[pool]));
    }
}
