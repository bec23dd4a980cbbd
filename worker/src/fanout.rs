//! Growing children over partitions or files, and joining them.

use gristmill_protocol::limits::{EXPAND_CHILDREN_MAX, EXPAND_INLINE_BYTES_MAX};
use gristmill_protocol::message::{Expansion, InputValue, Items, OnFailure, Template};
use gristmill_protocol::payload::Payload;
use gristmill_protocol::{ErrorCode, Failure, wire};
use gristmill_worker_runtime::Item;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use crate::context::TaskContext;
use crate::failure::IntoFailure;

/// An expansion into one child an item, and their join.
pub(crate) fn expand<I: Serialize, C: Serialize, J: Serialize>(
    context: &TaskContext<'_>,
    items: &[I],
    child: &C,
    join: &J,
) -> Result<Expansion, Failure> {
    if items.len() > EXPAND_CHILDREN_MAX as usize {
        let text = format!("{} parallel tasks would be needed; the limit is {EXPAND_CHILDREN_MAX}", items.len());
        return Err(Failure::new(ErrorCode::TooLarge, text));
    }
    let encoded: Vec<ByteBuf> = items.iter().map(|item| ByteBuf::from(wire::encode(item))).collect();
    let bytes: usize = encoded.iter().map(|item| item.len()).sum();
    let items = if bytes <= EXPAND_INLINE_BYTES_MAX {
        Items::Inline(encoded)
    } else {
        let count = encoded.len() as u32;
        Items::Artifact { digest: context.put(wire::encode(&encoded))?, count }
    };
    let template = |payload: Payload| Template { payload: ByteBuf::from(wire::encode(&payload)) };
    Ok(Expansion {
        child: template(Payload::Child(ByteBuf::from(wire::encode(child)))),
        items,
        join: template(Payload::Join(ByteBuf::from(wire::encode(join)))),
        on_failure: OnFailure::Fail,
    })
}

/// A child's own item.
pub(crate) fn item<I: DeserializeOwned>(context: &TaskContext<'_>, item: Option<&Item>) -> Result<I, Failure> {
    let bytes = match item {
        Some(Item::Inline(bytes)) => bytes.to_vec(),
        Some(Item::Listed { list, index }) => {
            let items: Vec<ByteBuf> =
                wire::decode("a list of items", &context.get(*list)?).map_err(IntoFailure::into_failure)?;
            let found = items.into_iter().nth(*index as usize);
            found.ok_or_else(|| Failure::new(ErrorCode::Internal, "the task's item isn't in its list"))?.into_vec()
        }
        None => return Err(Failure::new(ErrorCode::Internal, "a parallel task came without its item")),
    };
    wire::decode("an item", &bytes).map_err(IntoFailure::into_failure)
}

/// The results of a join's children, in their order.
pub(crate) fn children<R: DeserializeOwned>(context: &TaskContext<'_>, input: &InputValue) -> Result<Vec<R>, Failure> {
    let outputs: Vec<Option<ByteBuf>> = match input {
        InputValue::Children(outputs) => outputs.clone(),
        InputValue::ChildrenArtifact(digest) => {
            wire::decode("the outputs of parallel tasks", &context.get(*digest)?).map_err(IntoFailure::into_failure)?
        }
        InputValue::Output(_) => return Err(Failure::new(ErrorCode::Internal, "a join came without its children")),
    };
    outputs.iter().flatten().map(|output| context.get_result(output)).collect()
}
