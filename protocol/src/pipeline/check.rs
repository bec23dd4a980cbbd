//! The check of a whole pipeline file: everything that can be known before anything runs.

use super::build::build;
use super::complaint::{Complaint, Complaints};
use super::source::{self, Source};
use super::task::Pipeline;
use super::{graph, params, references, sense, structure};

/// Checks a pipeline and puts its parameters in.
///
/// `file_name` is what complaints call the file; `overrides` are the parameters given beside it
/// (`--set k=v`), of which the last of a name holds. All complaints come at once, but for a text that is no
/// YAML at all: what follows the first error can't be told. Nothing is read: paths stay as they are written.
///
/// # Errors
/// All complaints, with warnings among them, when one of them is an error. Warnings alone come with the
/// pipeline.
pub fn check(file_name: &str, text: &str, overrides: &[(String, String)]) -> Result<Pipeline, Complaints> {
    let source = Source::new(file_name, text);
    let tree = source::parse(&source)?;
    let (mut root, mut complaints) = (tree.root, tree.complaints);
    let values = params::apply(&source, &mut root, overrides, &mut complaints);
    structure::walk(&source, &root, &mut complaints);
    let steps = references::resolve(&source, &root, &mut complaints);
    graph::circles(&source, &steps, &mut complaints);
    sense::look(&source, &root, &steps, &mut complaints);

    let complaints = Complaints::new(complaints);
    if complaints.has_errors() {
        return Err(complaints);
    }
    match build(&source, &root, &steps) {
        Ok(pipeline) => Ok(Pipeline { params: values, warnings: complaints, ..pipeline }),
        Err(more) => {
            let all: Vec<Complaint> = complaints.complaints.into_iter().chain(more).collect();
            Err(Complaints::new(all))
        }
    }
}
