//! Damage is found where it is, and what the state loses comes back from the artifacts.

mod support;

use std::sync::Arc;

use gristmill_backends::artifacts::Artifacts as _;
use gristmill_backends::state::State as _;
use gristmill_backends::state::memory::SharedMemory;
use gristmill_protocol::Digest;
use gristmill_registry::{Closely, Registration, Registry, RegistryError, Signer, VersionRef};
use support::{Stores, ann, damage, empty_state, unstored};

const WHOLLY: Closely = Closely { read_artifacts: true };

/// Two versions, an alias that moved, a tag, a signature, a prediction: seven facts in two logs.
async fn lively() -> Stores {
    let stores = Stores::new();
    let registry = stores.registry();
    stores.register("one").await;
    stores.register("two").await;
    let acting = registry.on_behalf(ann(10));
    acting.set_alias("m", "champion", 1).await.expect("set");
    acting.set_alias("m", "champion", 2).await.expect("set");
    acting.tag("m", Some(2), "stage", Some("live")).await.expect("tagged");
    acting.sign("m", 2, &Signer::from_seed([1; 32])).await.expect("signed");
    let of = VersionRef { name: "m".to_owned(), version: 2 };
    acting.scored(&of, stores.put("scores").await, 5, None).await.expect("noted");
    stores
}

async fn damages(stores: &Stores, state: &Arc<SharedMemory>) -> Vec<String> {
    let registry = Registry::new(state.clone(), stores.artifacts.clone());
    let verified = registry.verify(WHOLLY).await.expect("verified");
    verified.damages.iter().map(|damage| damage.to_string()).collect()
}

/// The same log, some of whose entries are other ones or aren't there.
async fn with_entries(stores: &Stores, change: impl Fn(u64, Vec<u8>) -> Option<Vec<u8>>) -> Arc<SharedMemory> {
    let changed = empty_state(1);
    for log in ["model/m".to_owned(), stores.state.logs("scores/").await.expect("listed").remove(0)] {
        let mut position = 0;
        for entry in stores.state.log_read(&log, 0, 100).await.expect("read") {
            let body = if log == "model/m" { change(entry.position, entry.body) } else { Some(entry.body) };
            if let Some(body) = body {
                position += 1;
                changed.log_append(&log, position, entry.append, body).await.expect("it follows");
            }
        }
    }
    changed
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let place = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..place], to, &bytes[place + from.len()..]].concat()
}

#[tokio::test]
async fn a_registry_that_is_whole_has_no_damage() {
    let stores = lively().await;
    let verified = stores.registry().verify(WHOLLY).await.expect("verified");
    assert_eq!(verified.damages, []);
    assert_eq!((verified.logs, verified.facts, verified.versions), (2, 7, 2));
    assert_eq!((verified.artifacts, verified.signatures, verified.uncopied), (2, 1, 0));
}

#[tokio::test]
async fn a_changed_fact_shows_in_its_place_and_in_the_next_link() {
    let stores = lively().await;
    let changed = with_entries(&stores, |number, body| match number {
        3 => Some(replaced(&body, b"because", b"per ann")),
        _ => Some(body),
    });
    let found = damages(&stores, &changed.await).await;
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("`model/m`, fact 3: it isn't copied"), "{found:#?}");
    assert!(found[1].starts_with("`model/m`, fact 3: the artifacts have another fact"), "{found:#?}");
    assert!(found[2].starts_with("`model/m`, fact 4: it follows"), "{found:#?}");
}

#[tokio::test]
async fn a_dropped_fact_shows() {
    let stores = lively().await;
    let changed = with_entries(&stores, |number, body| (number != 3).then_some(body)).await;
    let found = damages(&stores, &changed).await;
    assert!(
        found.iter().any(|damage| damage.starts_with("`model/m`, fact 3: it says that it is number 4")),
        "{found:#?}"
    );
    let registry = Registry::new(changed, stores.artifacts.clone());
    let answer = registry.model("m").await;
    assert!(matches!(answer, Err(RegistryError::BrokenChain { number: 3, .. })), "{answer:?}");
    assert_eq!(registry.names().await.expect("listed"), ["m"], "damage doesn't hide a model");
}

#[tokio::test]
async fn a_lost_end_shows_and_comes_back_with_the_next_change() {
    let stores = lively().await;
    let cut = with_entries(&stores, |number, body| (number <= 4).then_some(body)).await;
    let found = damages(&stores, &cut).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("`model/m`, fact 5: the state has lost it"), "{found:#?}");

    // The next version comes after all that was acknowledged.
    let registry = Registry::new(cut.clone(), stores.artifacts.clone());
    let registration = Registration::of(stores.model("three").await);
    let made = registry.on_behalf(ann(20)).register("m", registration).await.expect("registered");
    assert_eq!(made.version, 3);
    assert_eq!(registry.model("m").await.expect("there").versions[1].tags["stage"], "live");
    assert_eq!(damages(&stores, &cut).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_state_that_went_back_under_a_running_registry_reuses_no_number() {
    let stores = lively().await;
    let registry = stores.registry();
    assert_eq!(registry.model("m").await.expect("there").versions.len(), 2);
    let before = stores.state.snapshot();
    stores.register("lost").await;
    assert_eq!(registry.model("m").await.expect("there").versions.len(), 3);
    // Another life of the store, some facts back.
    let mut went_back = before;
    went_back.id = gristmill_backends::state::StoreId(2);
    stores.state.restore(went_back);
    assert_eq!(registry.model("m").await.expect("there").versions.len(), 2);
    let registration = Registration::of(stores.model("next").await);
    let made = registry.on_behalf(ann(20)).register("m", registration).await.expect("registered");
    assert_eq!(made.version, 4, "number 3 was told to somebody");
    assert_eq!(registry.verify(WHOLLY).await.expect("verified").damages, []);
}

#[tokio::test]
async fn missing_and_damaged_artifacts_show_at_the_fact_that_made_the_version() {
    let stores = lively().await;
    stores.artifacts.delete(Digest::of(b"one")).await.expect("deleted");
    damage(&stores.artifact_path(Digest::of(b"two")), b"tow");
    let found = damages(&stores, &stores.state).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("`model/m`, fact 1: version 1: there is no artifact"), "{found:#?}");
    assert!(found[1].starts_with("`model/m`, fact 2: version 2: artifact"), "{found:#?}");
    let quick = stores.registry().verify(Closely::default()).await.expect("verified");
    assert_eq!(quick.damages.len(), 1, "a look finds what is missing");
}

#[tokio::test]
async fn a_signature_that_does_not_fit_shows() {
    let stores = lively().await;
    let digits = Signer::from_seed([1; 32]).sign("m", 2, Digest::of(b"two")).signature;
    let forged: String = digits.chars().rev().collect();
    let changed = with_entries(&stores, |number, body| match number {
        6 => Some(replaced(&body, digits.as_bytes(), forged.as_bytes())),
        _ => Some(body),
    });
    let found = damages(&stores, &changed.await).await;
    assert!(found.iter().any(|damage| damage.contains("fact 2: version 2: the signature of ed25519:")), "{found:#?}");
}

#[tokio::test]
async fn an_empty_state_is_rebuilt_from_the_artifacts() {
    let stores = lively().await;
    let empty = empty_state(9);
    let reborn = Registry::new(empty.clone(), stores.artifacts.clone());
    assert!(matches!(reborn.model("m").await, Err(RegistryError::NoModel { .. })));
    let rebuilt = reborn.rebuild().await.expect("rebuilt");
    assert_eq!((rebuilt.logs, rebuilt.facts, rebuilt.damages), (2, 7, vec![]));
    assert_eq!(reborn.model("m").await.expect("there"), stores.registry().model("m").await.expect("there"));
    assert_eq!(damages(&stores, &empty).await, Vec::<String>::new());
    assert_eq!(reborn.rebuild().await.expect("rebuilt").facts, 0, "what is there stays");
}

#[tokio::test]
async fn a_rebuild_ends_at_the_first_damage_and_says_so() {
    let stores = lively().await;
    let marks = stores.artifacts.marks("registry/model/m/", "", 10).await.expect("listed");
    let third: Digest = format!("sha256:{}", marks[2].rsplit_once('-').expect("a number").1).parse().expect("a digest");
    stores.artifacts.delete(third).await.expect("deleted");
    let reborn = Registry::new(empty_state(9), stores.artifacts.clone());
    let rebuilt = reborn.rebuild().await.expect("rebuilt");
    assert_eq!(rebuilt.facts, 3, "two of the model, one of its scores");
    assert_eq!((rebuilt.damages.len(), rebuilt.damages[0].fact), (1, Some(3)), "{:?}", rebuilt.damages);
    let found = damages(&stores, &stores.state).await;
    assert!(found[0].starts_with("`model/m`, fact 3: its copy: there is no artifact"), "{found:#?}");
}

#[tokio::test]
async fn entries_of_one_log_can_not_stand_in_another() {
    let stores = lively().await;
    let first = stores.state.log_read("model/m", 0, 1).await.expect("read").remove(0);
    stores.state.log_append("model/other", 1, 1, first.body).await.expect("it follows");
    let found = damages(&stores, &stores.state).await;
    assert!(found.iter().any(|damage| damage == "`model/other`, fact 1: it belongs to `model/m`"), "{found:#?}");
}

#[tokio::test]
async fn every_name_survives_a_rebuild() {
    let stores = Stores::new();
    let names = ["plain", "Plain", "with space", "größe", "a.b%c~d", "🌾"];
    for name in names {
        stores.put(name).await;
        let registration = Registration::of(unstored(name));
        stores.registry().on_behalf(ann(1)).register(name, registration).await.expect("registered");
    }
    let reborn = Registry::new(empty_state(9), stores.artifacts.clone());
    assert_eq!(reborn.rebuild().await.expect("rebuilt").damages, []);
    for name in names {
        assert_eq!(reborn.model(name).await.expect("there").versions[0].new.model, Digest::of(name.as_bytes()));
    }
}

#[tokio::test]
async fn a_state_that_was_emptied_under_a_running_registry_comes_back_with_the_next_change() {
    let stores = lively().await;
    let registry = stores.registry();
    registry.on_behalf(ann(20)).describe("m", None, "the model").await.expect("described");
    // The same life of the store, as after `FLUSHALL`.
    let nothing = empty_state(1).snapshot();
    stores.state.restore(nothing);
    let registration = Registration::of(stores.model("three").await);
    let made = registry.on_behalf(ann(21)).register("m", registration).await.expect("registered");
    assert_eq!(made.version, 3);
    assert_eq!(registry.model("m").await.expect("there").description, "the model");
    assert_eq!(registry.reconcile().await.expect("made whole"), 1, "the log of its scores");
    assert_eq!(registry.verify(WHOLLY).await.expect("verified").damages, []);
}
