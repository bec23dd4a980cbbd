//! Makes a model a version. An effect outside: keyed by run and step, so however often it is done, it is done once.

use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::Register;
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_registry::{Act, Lineage, NewVersion, Registration};

use super::TaskEnd;
use super::validate::{load, model_of};
use crate::context::TaskContext;
use crate::documents::Evidence;
use crate::failure::IntoFailure;
use crate::spans;

/// Makes the version, once the model is known to load.
pub(crate) fn register(context: &TaskContext<'_>, register: &Register) -> Result<TaskEnd, Failure> {
    let digest = model_of(context, &register.model)?;
    let model = load(context, digest)?;
    let (metrics, evidence) = match &register.evidence {
        Some(evidence) => match context.input(evidence)?.0 {
            Output::Evaluation { evaluation, model: measured, metrics, .. } if *measured == digest => {
                (metrics.clone(), Some(*evaluation))
            }
            Output::Evaluation { .. } => {
                let text = format!("`{evidence}` measured another model than `{}`", register.model);
                return Err(Failure::new(ErrorCode::BadPipeline, text));
            }
            _ => return Err(Failure::new(ErrorCode::BadPipeline, format!("`{evidence}` isn't an evaluation"))),
        },
        None => Default::default(),
    };
    let lineage = lineage(context, register, evidence)?;
    let algorithm = gristmill_ml::estimators::algorithm_name(&model.training().algorithm).to_owned();
    let new =
        NewVersion { model: digest, run: context.run, step: context.step.to_owned(), metrics, evidence, algorithm };
    let clock = context.wait(context.resources.state.clock()).map_err(IntoFailure::into_failure)?;
    let act = Act {
        by: context.author(),
        why: Some("registered".to_owned()),
        trace: Some(context.run),
        at: clock.now,
        key: Some(format!("{}/{}", context.run, context.step)),
    };
    let registration = Registration {
        lineage,
        alias: register.alias.clone(),
        signer: context.resources.signer.clone(),
        ..Registration::of(new)
    };
    let registry = &context.resources.registry;
    let _registering = spans::register_version().entered();
    let registered = context
        .wait(registry.on_behalf(act).register(&register.name, registration))
        .map_err(IntoFailure::into_failure)?;
    let output = Output::Version {
        name: register.name.clone(),
        version: registered.version,
        model: digest,
        alias: register.alias.clone(),
    };
    Ok(if registered.changed { TaskEnd::Made(output) } else { TaskEnd::Found(output) })
}

/// Where the model comes from: the rows that it learned from and those that it was measured on, and its search.
fn lineage(context: &TaskContext<'_>, register: &Register, evidence: Option<Digest>) -> Result<Lineage, Failure> {
    let mut lineage = Lineage::default();
    if let Output::Model { study, learned_from, .. } = context.input(&register.model)?.0 {
        lineage.datasets.extend(*learned_from);
        lineage.study = *study;
    }
    if let Some(evidence) = evidence {
        let evidence: Evidence = context.get_json(evidence, "evidence")?;
        if !lineage.datasets.contains(&evidence.input.manifest) {
            lineage.datasets.push(evidence.input.manifest);
        }
    }
    Ok(lineage)
}
