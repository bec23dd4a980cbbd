//! Tasks that share a template: the one task of a step, the children of an expansion, its join.
//!
//! What is ready of a group is a cursor and a small set, and what is open a counter, so a hundred thousand
//! children cost no edges and no queue entries.

use std::collections::BTreeSet;

use gristmill_protocol::message::{Items, OnFailure};
use serde_bytes::ByteBuf;

/// What a group is within its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The step's own task.
    Root,
    /// Children of an expansion.
    Children,
    /// The task after an expansion's children.
    Join,
}

/// Tasks that share a template.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) step: u16,
    /// The task that expanded into this group; the task itself for a root.
    pub(crate) parent: u32,
    /// The other half of the expansion: a join's children, and the children's join.
    pub(crate) sibling: usize,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) depth: u8,
    /// How many expansions in a row led here: the round.
    pub(crate) round: u32,
    /// The place under the step of the task that began the rounds (`1/17`), empty for the step's own.
    pub(crate) base: String,
    pub(crate) tag: u32,
    pub(crate) payload: ByteBuf,
    pub(crate) items: Items,
    pub(crate) on_failure: OnFailure,
    pub(crate) lane: u16,
    /// Children that were never out are those from here on.
    pub(crate) cursor: u32,
    /// Ready tasks before the cursor: the ones to be tried again, and a root's or join's single task.
    pub(crate) again: BTreeSet<u32>,
    /// Nothing more starts: a sibling failed.
    pub(crate) halted: bool,
    /// Tasks that haven't ended.
    pub(crate) open: u32,
    /// Tasks that have failed.
    pub(crate) failed: u32,
    /// Outputs one after the other, each behind its length.
    outputs: Vec<u8>,
}

/// The settings of a new group.
#[derive(Clone, Debug)]
pub(crate) struct NewGroup {
    pub(crate) kind: Kind,
    pub(crate) step: u16,
    pub(crate) parent: u32,
    pub(crate) sibling: usize,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) depth: u8,
    pub(crate) round: u32,
    pub(crate) base: String,
    pub(crate) tag: u32,
    pub(crate) payload: ByteBuf,
    pub(crate) items: Items,
    pub(crate) on_failure: OnFailure,
    pub(crate) lane: u16,
}

impl Group {
    pub(crate) fn new(new: NewGroup) -> Group {
        Group {
            kind: new.kind,
            step: new.step,
            parent: new.parent,
            sibling: new.sibling,
            first: new.first,
            count: new.count,
            depth: new.depth,
            round: new.round,
            base: new.base,
            tag: new.tag,
            payload: new.payload,
            items: new.items,
            on_failure: new.on_failure,
            lane: new.lane,
            // Only children are ready by being new; single tasks wait to be told.
            cursor: if new.kind == Kind::Children { 0 } else { new.count },
            again: BTreeSet::new(),
            halted: false,
            open: new.count,
            failed: 0,
            outputs: Vec::new(),
        }
    }

    /// How many tasks could go out.
    pub(crate) fn ready(&self) -> u32 {
        if self.halted { 0 } else { self.count - self.cursor + self.again.len() as u32 }
    }

    /// Takes a ready task out. One that was never out leaves when a success of it arrives whose assignment was
    /// forgotten: those before it are then the ones that the cursor has left behind.
    pub(crate) fn leave(&mut self, task: u32) {
        let at = task - self.first;
        if at < self.cursor {
            self.again.remove(&task);
        } else if !self.halted {
            self.again.extend(self.first + self.cursor..task);
            self.cursor = at + 1;
        }
    }

    /// How many children may fail before all have.
    pub(crate) fn tolerated(&self) -> u32 {
        match self.on_failure {
            OnFailure::Fail => 0,
            OnFailure::Tolerate(count) => count,
        }
    }

    /// The place under the step of this group's tasks: `2` for children of the second round, `2/join`.
    pub(crate) fn path(&self) -> String {
        let slash = if self.base.is_empty() { "" } else { "/" };
        match self.kind {
            Kind::Root => String::new(),
            Kind::Children => format!("{}{slash}{}", self.base, self.round),
            Kind::Join => format!("{}{slash}{}/join", self.base, self.round),
        }
    }

    /// Keeps an output; returns where, for [`Group::output`]. Zero is the empty one.
    pub(crate) fn keep_output(&mut self, output: &[u8]) -> u32 {
        if output.is_empty() {
            return 0;
        }
        let at = self.outputs.len();
        self.outputs.extend_from_slice(&(output.len() as u16).to_le_bytes());
        self.outputs.extend_from_slice(output);
        u32::try_from(at + 1).expect("a group's outputs fit: 100,000 of 1 KiB")
    }

    /// The output kept at a place.
    pub(crate) fn output(&self, at: u32) -> &[u8] {
        let Some(at) = (at as usize).checked_sub(1) else { return &[] };
        let len = usize::from(u16::from_le_bytes([self.outputs[at], self.outputs[at + 1]]));
        &self.outputs[at + 2..at + 2 + len]
    }

    /// Bytes that the group takes in memory beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let items = match &self.items {
            Items::Inline(items) => items.iter().map(|item| item.capacity() + size_of::<ByteBuf>()).sum(),
            Items::None | Items::Artifact { .. } => 0,
        };
        self.outputs.capacity() + self.payload.capacity() + items + self.again.len() * 8
    }
}
