//! Documents and logs.

use std::sync::Arc;

use super::{StateFixture, cases, race};
use crate::state::{Document, State, StateError};

type Fixture = Arc<dyn StateFixture>;

cases!(StateFixture:
    a_document_changes_by_compare_and_set,
    a_document_that_is_made_again_has_a_new_version,
    racing_writers_of_a_document_lose_no_update,
    keys_are_listed_in_order_by_prefix,
    a_log_takes_exact_positions,
    a_repeated_log_entry_is_written_once,
    racing_writers_of_a_log_leave_no_gap,
    logs_are_listed_by_prefix,
);

fn assert_conflict<T: std::fmt::Debug>(answer: Result<T, StateError>, expected: u64, found: u64) {
    match answer {
        Err(StateError::Conflict { expected: e, found: f, .. }) => assert_eq!((e, f), (expected, found)),
        other => panic!("expected a conflict, found {other:?}"),
    }
}

async fn a_document_changes_by_compare_and_set(fixture: Fixture) {
    let state = fixture.fresh().await;
    assert_eq!(state.get("a").await.expect("readable"), None);
    let first = state.put("a", 0, b"one".to_vec()).await.expect("it doesn't exist");
    assert_conflict(state.put("a", 0, b"two".to_vec()).await, 0, first);
    let second = state.put("a", first, vec![]).await.expect("the version fits");
    assert!(second > first && first > 0);
    assert_eq!(state.get("a").await.expect("readable"), Some(Document { version: second, body: vec![] }));
    assert_conflict(state.delete("a", first).await, first, second);
    state.delete("a", second).await.expect("the version fits");
    assert_eq!(state.get("a").await.expect("readable"), None);
    assert_conflict(state.put("a", second, vec![]).await, second, 0);
}

async fn a_document_that_is_made_again_has_a_new_version(fixture: Fixture) {
    let state = fixture.fresh().await;
    let first = state.put("a", 0, vec![1]).await.expect("it doesn't exist");
    state.delete("a", first).await.expect("the version fits");
    let again = state.put("a", 0, vec![2]).await.expect("it doesn't exist");
    assert!(again > first);
    assert_conflict(state.put("a", first, vec![3]).await, first, again);
}

async fn racing_writers_of_a_document_lose_no_update(fixture: Fixture) {
    let state = fixture.fresh().await;
    race(8, |_| {
        let state = Arc::clone(&state);
        async move {
            for _ in 0..5 {
                add_one(&*state).await;
            }
        }
    })
    .await;
    let document = state.get("count").await.expect("readable").expect("there");
    assert_eq!(document.body, 40u64.to_be_bytes());
}

/// Counts up, again and again until nobody was in between.
async fn add_one(state: &dyn State) {
    loop {
        let document = state.get("count").await.expect("readable");
        let (version, count) = document.map_or((0, 0), |document| {
            (document.version, u64::from_be_bytes(document.body.try_into().expect("eight bytes")))
        });
        match state.put("count", version, (count + 1).to_be_bytes().to_vec()).await {
            Ok(_) => return,
            Err(StateError::Conflict { .. }) => {}
            Err(other) => panic!("unexpected {other}"),
        }
    }
}

async fn keys_are_listed_in_order_by_prefix(fixture: Fixture) {
    let state = fixture.fresh().await;
    for key in ["b/2", "a", "b/1", "b/é", "b", "c", "b/10", "B/1", "b/%"] {
        state.put(key, 0, vec![]).await.expect("it doesn't exist");
    }
    assert_eq!(state.keys("b/", "", 10).await.expect("readable"), ["b/%", "b/1", "b/10", "b/2", "b/é"]);
    assert_eq!(state.keys("b/", "b/1", 2).await.expect("readable"), ["b/10", "b/2"]);
    assert_eq!(state.keys("", "", 3).await.expect("readable"), ["B/1", "a", "b"]);
    assert!(state.keys("d", "", 10).await.expect("readable").is_empty());
}

async fn a_log_takes_exact_positions(fixture: Fixture) {
    let state = fixture.fresh().await;
    assert_conflict(state.log_append("m", 2, 1, vec![]).await, 1, 0);
    assert_conflict(state.log_append("m", 0, 1, vec![]).await, 0, 0);
    for position in 1..=5 {
        state.log_append("m", position, position + 10, vec![position as u8]).await.expect("it follows");
    }
    assert_conflict(state.log_append("m", 7, 1, vec![]).await, 6, 5);
    assert_conflict(state.log_append("m", 3, 1, vec![]).await, 2, 5);
    let part = state.log_read("m", 1, 3).await.expect("readable");
    let seen: Vec<(u64, u64, Vec<u8>)> =
        part.into_iter().map(|entry| (entry.position, entry.append, entry.body)).collect();
    assert_eq!(seen, [(2, 12, vec![2]), (3, 13, vec![3]), (4, 14, vec![4])]);
    assert!(state.log_read("other", 0, 3).await.expect("readable").is_empty());
}

async fn a_repeated_log_entry_is_written_once(fixture: Fixture) {
    let state = fixture.fresh().await;
    for _ in 0..3 {
        state.log_append("m", 1, 7, vec![1]).await.expect("the same again is fine");
    }
    state.log_append("m", 2, 8, vec![2]).await.expect("it follows");
    state.log_append("m", 1, 7, vec![1]).await.expect("the same again is fine");
    assert_conflict(state.log_append("m", 1, 9, vec![1]).await, 0, 2);
    assert_eq!(state.log_read("m", 0, 10).await.expect("readable").len(), 2);
}

async fn racing_writers_of_a_log_leave_no_gap(fixture: Fixture) {
    let state = fixture.fresh().await;
    race(8, |number| {
        let state = Arc::clone(&state);
        async move {
            let mut position = 1;
            for round in 0..4 {
                let token = 100 * number + round;
                while let Err(error) = state.log_append("m", position, token, vec![]).await {
                    let StateError::Conflict { found, .. } = error else { panic!("unexpected {error}") };
                    position = found + 1;
                }
                position += 1;
            }
        }
    })
    .await;
    let entries = state.log_read("m", 0, 100).await.expect("readable");
    assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), (1..=32).collect::<Vec<u64>>());
    let mut tokens: Vec<u64> = entries.iter().map(|entry| entry.append).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 32);
}

async fn logs_are_listed_by_prefix(fixture: Fixture) {
    let state = fixture.fresh().await;
    for log in ["model/b", "model/a", "other", "model", "model/a2"] {
        for position in 1..=3 {
            state.log_append(log, position, position, vec![]).await.expect("it follows");
        }
    }
    assert_eq!(state.logs("model/").await.expect("readable"), ["model/a", "model/a2", "model/b"]);
    assert_eq!(state.logs("").await.expect("readable").len(), 5);
    assert!(state.logs("z").await.expect("readable").is_empty());
}
