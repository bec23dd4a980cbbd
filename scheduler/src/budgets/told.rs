//! Costs, budgets and sizes in the shapes that the API answers and the command line prints.

use std::collections::BTreeMap;

use gristmill_backends::state::{RunRecord, State, StateError};
use gristmill_pools::costs::{Amount, AtLimit, Prices, Scope};
use gristmill_pools::sizing::{Advice, Machine, StepUsage, advise};
use gristmill_protocol::Timestamp;
use gristmill_protocol::api;
use gristmill_protocol::limits::USAGE_STEPS_MAX;

use super::{BudgetDocument, DAY_MS, Day, RunCost, Spent, StepCost, prices, sums};
use crate::history::{Folding, History};

/// Sums of one answer: more than anybody reads.
const ITEMS_MAX: usize = 1_000;
/// Days over which waits are told.
const WAIT_DAYS: u64 = 7;

/// What a run costs, or has cost until `now`.
pub fn run_cost(
    record: &RunRecord,
    history: &History,
    folding: &Folding,
    prices: &Prices,
    now: Timestamp,
) -> api::RunCost {
    let cost = RunCost::of(history, &folding.running_us(now), prices, |_| true);
    let step = |step: &StepCost| api::StepCost {
        step: step.step.clone(),
        pool: step.pool.clone(),
        attempts: step.used.attempts,
        cached: step.used.cached,
        slot_ms: step.slot_us() / 1_000,
        wasted_ms: step.used.wasted_us / 1_000,
        running_ms: step.running_us / 1_000,
        amount: step.amount.map(Amount::units),
        wasted: step.wasted.map(Amount::units),
    };
    let pool = |(pool, (slot_us, amount, wasted)): (String, (u64, Option<Amount>, Option<Amount>))| api::PoolCost {
        pool,
        slot_ms: slot_us / 1_000,
        amount: amount.map(Amount::units),
        wasted: wasted.map(Amount::units),
    };
    api::RunCost {
        run: record.run,
        pipeline: record.pipeline.clone(),
        namespace: record.namespace.clone(),
        ended: history.status.is_some(),
        currency: named(&cost.currency),
        amount: cost.amount.units(),
        wasted: cost.wasted.units(),
        slot_ms: cost.slot_us() / 1_000,
        wasted_ms: cost.wasted_us() / 1_000,
        unpriced_ms: cost.unpriced_us() / 1_000,
        steps: cost.steps.iter().map(step).collect(),
        pools: cost.pools().into_iter().map(pool).collect(),
    }
}

/// What ended runs cost on the days from one to another, both included and counted since 1970, in namespaces that
/// `is_seen`.
pub async fn costs(
    state: &dyn State,
    from: u64,
    to: u64,
    by: api::CostGroup,
    is_seen: impl Fn(&str) -> bool,
) -> Result<api::Costs, StateError> {
    let (sums, prices) = (sums(state, from, to).await?, prices(state).await?);
    let mut groups: BTreeMap<String, Spent> = BTreeMap::new();
    let mut whole = Spent::default();
    for row in sums.days.iter().flat_map(Day::rows).filter(|row| is_seen(&row.namespace)) {
        whole.add(&row.spent);
        let name = match by {
            api::CostGroup::Pipeline => row.pipeline.clone(),
            api::CostGroup::Namespace => row.namespace.clone(),
            api::CostGroup::Pool => row.pool.clone(),
            api::CostGroup::Step => format!("{}/{}", row.pipeline, row.step),
            api::CostGroup::Model => continue,
        };
        groups.entry(name).or_default().add(&row.spent);
    }
    if by == api::CostGroup::Model {
        for (model, _, spent) in sums.days.iter().flat_map(Day::models).filter(|(_, name, _)| is_seen(name)) {
            groups.entry(model.to_owned()).or_default().add(spent);
        }
    }
    let mut groups: Vec<(String, Spent)> = groups.into_iter().collect();
    groups.sort_by(|a, b| (b.1.amount, b.1.slot_us, &a.0).cmp(&(a.1.amount, a.1.slot_us, &b.0)));
    let left_out = groups.len().saturating_sub(ITEMS_MAX);
    let item = |(name, spent): (String, Spent)| api::CostItem {
        name,
        attempts: spent.attempts,
        slot_ms: spent.slot_us / 1_000,
        wasted_ms: spent.wasted_us / 1_000,
        unpriced_ms: spent.unpriced_us / 1_000,
        amount: spent.amount.units(),
        wasted: spent.wasted.units(),
    };
    Ok(api::Costs {
        from_ms: from * DAY_MS,
        until_ms: (to + 1) * DAY_MS,
        by,
        currency: named(&prices.currency),
        counted_until_ms: sums.counted_until.map(|at| at.0),
        amount: whole.amount.units(),
        wasted: whole.wasted.units(),
        items: groups.into_iter().take(ITEMS_MAX).map(item).collect(),
        left_out,
    })
}

/// How a budget stands.
pub fn budget(document: BudgetDocument) -> api::BudgetItem {
    let ratio = document.ratio();
    let (namespace, pipeline) = match document.budget.scope {
        Scope::Everything => (None, None),
        Scope::Namespace(name) => (Some(name), None),
        Scope::Pipeline(name) => (None, Some(name)),
    };
    api::BudgetItem {
        name: document.name,
        namespace,
        pipeline,
        period: document.budget.period.as_str().to_owned(),
        from_ms: document.period.map(|(from, _)| from.0),
        until_ms: document.period.map(|(_, until)| until.0),
        currency: named(&document.currency),
        amount: document.budget.amount.units(),
        spent: document.spent.units(),
        open: document.open.units(),
        ratio,
        run: document.run,
        stops: document.budget.at_limit == AtLimit::Stop,
        warned_ms: document.warned.map(|at| at.0),
        reached_ms: document.reached.map(|at| at.0),
        looked_ms: document.looked.0,
    }
}

/// What is recommended for the workers of a pool, from what workers wrote down of its tasks.
pub async fn sizing(state: &dyn State, pool: &str) -> Result<api::Sizing, StateError> {
    let prefix = format!("usage/{pool}/");
    let mut usages: Vec<(String, StepUsage)> = Vec::new();
    // One more for those that have no measures of their own.
    for key in state.keys(&prefix, "", USAGE_STEPS_MAX + 1).await? {
        let Some(found) = state.get(&key).await? else { continue };
        // What another version wrote in another way is written anew by workers of this one.
        if let Ok(usage) = serde_json::from_slice(&found.body) {
            usages.push((key[prefix.len()..].to_owned(), usage));
        }
    }
    let seen = usages.iter().map(|(_, usage)| usage).filter(|usage| usage.cores > 0).max_by_key(|usage| usage.cores);
    let machine = seen.map(|usage| Machine { cores: usage.cores, memory_bytes: usage.memory_bytes });
    let advice = machine.and_then(|machine| advise(usages.iter().map(|(_, usage)| usage), machine));
    let today = state.clock().await?.now.0 / DAY_MS;
    let waited = sums(state, today.saturating_sub(WAIT_DAYS - 1), today).await?.spent(|row| row.pool == pool);
    let (slots, memory_mib, confidence, reasons, tasks) = match advice {
        Some(Advice { slots, memory_mib, confidence, reasons, tasks, .. }) => {
            (Some(slots), memory_mib, confidence.as_str(), reasons, tasks)
        }
        None => {
            let why = "no task of it was measured: workers write down what tasks used every ten seconds";
            (None, None, "nothing measured", vec![why.to_owned()], 0)
        }
    };
    Ok(api::Sizing {
        pool: pool.to_owned(),
        tasks,
        slots,
        memory_mib,
        confidence: confidence.to_owned(),
        reasons,
        cores: machine.map(|machine| machine.cores),
        machine_memory_bytes: machine.map(|machine| machine.memory_bytes).filter(|bytes| *bytes > 0),
        mean_wait_ms: (waited.waits > 0).then(|| waited.waited_us as f64 / 1e3 / waited.waits as f64),
        steps: usages.into_iter().map(|(step, usage)| step_sizing(step, &usage)).collect(),
    })
}

fn step_sizing(step: String, usage: &StepUsage) -> api::StepSizing {
    let ms = |us: Option<u64>| us.unwrap_or(0) as f64 / 1e3;
    api::StepSizing {
        step,
        tasks: usage.tasks,
        wall_ms_p50: ms(usage.wall_us.quantile(0.5)),
        wall_ms_p95: ms(usage.wall_us.quantile(0.95)),
        cpu_ms_p95: ms(usage.cpu_us.quantile(0.95)),
        cores_p95: usage.cpu_share.quantile(0.95).unwrap_or(0) as f64 / 1e3,
        peak_kib_p99_alone: usage.alone_kib.quantile(0.99),
        peak_kib_p99_shared: usage.shared_kib.quantile(0.99),
    }
}

/// A currency, where there is one.
fn named(currency: &str) -> Option<String> {
    (!currency.is_empty()).then(|| currency.to_owned())
}
