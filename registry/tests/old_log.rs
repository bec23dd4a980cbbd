//! A log as it was written before facts were chained still says what it said, and goes on as a chain.

mod support;

use expect_test::expect;
use gristmill_backends::state::State as _;
use gristmill_protocol::{Digest, Timestamp, wire};
use gristmill_registry::{AliasMove, Closely, LogEntry, NewVersion, Registry, RegistryError};
use support::{Brief as _, Stores, ann, empty_state, unstored};

/// The bytes of three facts: version 1 of the model `one` was made by `old`, version 2 of `two`, and the alias
/// `champion` was moved to version 2. MessagePack behind a version byte, as the first release wrote it.
const OLD: [&str; 3] = [include_str!("old_log/1.hex"), include_str!("old_log/2.hex"), include_str!("old_log/3.hex")];

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.trim().bytes().map(|digit| (digit as char).to_digit(16).expect("a digit") as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

async fn old_registry() -> Stores {
    let stores = Stores::new();
    stores.put("one").await;
    stores.put("two").await;
    for (place, hex) in OLD.iter().enumerate() {
        let bytes = bytes_of(hex);
        let token = u64::from_be_bytes(Digest::of(&bytes).as_bytes()[..8].try_into().expect("eight"));
        stores.state.log_append("model/m", place as u64 + 1, token, bytes).await.expect("it follows");
    }
    stores
}

#[tokio::test]
async fn an_old_log_says_what_it_said() {
    let stores = old_registry().await;
    let view = stores.registry().model("m").await.expect("readable");
    let versions: Vec<&NewVersion> = view.versions.iter().map(|version| &version.new).collect();
    assert_eq!(versions, [&unstored("one"), &unstored("two")]);
    assert_eq!((view.versions[0].at, view.versions[0].by.as_str()), (Timestamp(100), "old"));
    let moved = &view.moves[0];
    assert_eq!((moved.alias.as_str(), moved.from, moved.to, moved.why.as_str()), ("champion", None, 2, "better"));
    assert_eq!(view.alias_at("champion", Timestamp(299)), None);
    assert_eq!(view.alias_at("champion", Timestamp(300)), Some(2));
}

#[tokio::test]
async fn an_old_log_goes_on_as_a_chain_and_is_copied() {
    let stores = old_registry().await;
    let registry = stores.registry();
    let verified = registry.verify(Closely::default()).await.expect("verified");
    assert_eq!((verified.damages, verified.uncopied), (vec![], 3), "an old log owes no copies");
    assert!(registry.promote("m", 1, "champion", "ann", "older", Timestamp(400)).await.is_ok());
    let verified = registry.verify(Closely::default()).await.expect("verified");
    assert_eq!((verified.damages, verified.uncopied, verified.facts), (vec![], 0, 4));

    let reborn = Registry::new(empty_state(2), stores.artifacts.clone());
    assert_eq!(reborn.rebuild().await.expect("rebuilt").facts, 4);
    assert_eq!(reborn.model("m").await.expect("there"), registry.model("m").await.expect("there"));
}

#[tokio::test]
async fn a_change_of_an_old_fact_shows_once_the_log_is_a_chain() {
    let stores = old_registry().await;
    stores.registry().promote("m", 1, "champion", "ann", "older", Timestamp(400)).await.expect("promoted");
    let entries = stores.state.log_read("model/m", 0, 10).await.expect("read");
    let forged = empty_state(1);
    for entry in entries {
        let mut body = entry.body;
        if entry.position == 1 {
            // `old` becomes `odd`, in the first of the facts that no record follows directly.
            let place = body.windows(3).position(|window| window == b"old").expect("it is there");
            body[place..place + 3].copy_from_slice(b"odd");
        }
        forged.log_append("model/m", entry.position, entry.append, body).await.expect("it follows");
    }
    let registry = Registry::new(forged, stores.artifacts.clone());
    let verified = registry.verify(Closely::default()).await.expect("verified");
    let numbers: Vec<Option<u64>> = verified.damages.iter().map(|damage| damage.fact).collect();
    assert_eq!(numbers, [Some(1), Some(4)], "{:?}", verified.damages);
    let answer = registry.model("m").await;
    assert!(matches!(answer, Err(RegistryError::BrokenChain { number: 4, .. })), "{answer:?}");
}

#[tokio::test]
async fn the_verbs_that_there_were_do_what_they_did() {
    let stores = Stores::new();
    let registry = stores.registry();
    let (one, two) = (stores.model("one").await, stores.model("two").await);
    let register = |new: &NewVersion| registry.register("m", new.clone(), Some("champion"), "step", Timestamp(1));
    assert_eq!(register(&one).await.map(|made| (made.version, made.changed)).expect("made"), (1, true));
    assert_eq!(register(&two).await.map(|made| (made.version, made.changed)).expect("made"), (2, true));
    assert_eq!(register(&one).await.map(|made| (made.version, made.changed)).expect("found"), (1, false));
    assert_eq!(registry.resolve("m@champion").await.expect("there"), ("m".to_owned(), 2, two));
    assert_eq!(registry.resolve("m@1").await.expect("there"), ("m".to_owned(), 1, one));
    let moved = registry.rollback("m", "champion", "ann", "worse", Timestamp(2)).await.expect("back");
    assert_eq!((moved.from, moved.to, moved.rollback), (Some(2), 1, true));
    let view = registry.promote("m", 2, "champion", "ann", "better", Timestamp(3)).await.expect("promoted");
    assert_eq!(view.aliases["champion"], 2);
    let missing = registry.register("m", unstored("nowhere"), None, "step", Timestamp(4)).await;
    assert!(matches!(missing, Err(RegistryError::BytesMissing { .. })), "{missing:?}");
    let error = registry.model("other").await.expect_err("there is none");
    expect!["there is no registered model `other`; hint: registered are: m"]
        .assert_eq(&format!("{error}; hint: {}", error.hint().unwrap_or_default()));
}

#[test]
fn old_facts_have_the_bytes_that_they_had() {
    let created = |at, version, bytes| LogEntry::VersionCreated {
        at: Timestamp(at),
        by: "old".to_owned(),
        version,
        new: unstored(bytes),
    };
    let moved = LogEntry::AliasMoved(AliasMove {
        at: Timestamp(300),
        by: "old".to_owned(),
        why: "better".to_owned(),
        alias: "champion".to_owned(),
        from: None,
        to: 2,
        rollback: false,
    });
    for (hex, fact) in OLD.iter().zip([created(100, 1, "one"), created(200, 2, "two"), moved]) {
        assert_eq!(wire::encode(&fact), bytes_of(hex));
    }
}

#[tokio::test]
async fn what_an_old_program_writes_in_between_is_copied_too() {
    let stores = Stores::new();
    let registry = stores.registry();
    assert_eq!(stores.register("one").await, 1);
    registry.on_behalf(ann(1)).set_alias("m", "champion", 1).await.expect("set");
    stores.put("two").await;
    let old = LogEntry::VersionCreated { at: Timestamp(5), by: "old".to_owned(), version: 2, new: unstored("two") };
    stores.state.log_append("model/m", 3, 1, wire::encode(&old)).await.expect("it follows");
    registry.on_behalf(ann(6)).set_alias("m", "champion", 2).await.expect("set");
    let verified = registry.verify(Closely::default()).await.expect("verified");
    assert_eq!((verified.damages, verified.uncopied, verified.facts), (vec![], 0, 4));
}
