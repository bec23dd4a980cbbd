//! Versions that come from outside, stages, and what clients of other registries expect beside.

mod support;

use std::collections::BTreeMap;

use gristmill_backends::state::State as _;
use gristmill_protocol::{Timestamp, wire};
use gristmill_registry::{Change, Closely, External, Lineage, LogEntry, Registration, RegistryError, Stage};
use support::{Stores, ann, keyed};

fn external() -> External {
    External {
        source: "mlflow-artifacts:/1/abc/artifacts/model".to_owned(),
        run: Some("abc".to_owned()),
        run_link: None,
        logged_model: Some("m-1".to_owned()),
    }
}

async fn three() -> Stores {
    let stores = Stores::new();
    for bytes in ["one", "two", "three"] {
        stores.register(bytes).await;
    }
    stores
}

fn stages(view: &gristmill_registry::ModelView) -> Vec<Stage> {
    view.versions.iter().map(|version| version.stage).collect()
}

#[tokio::test]
async fn where_a_version_comes_from_is_kept_and_outlives_the_state() {
    let stores = Stores::new();
    let registration = Registration { external: Some(external()), ..Registration::of(stores.model("one").await) };
    let registry = stores.registry();
    let made = registry.on_behalf(keyed(1, "k")).register("m", registration.clone()).await.expect("made");
    let again = registry.on_behalf(keyed(2, "k")).register("m", registration.clone()).await.expect("found");
    assert_eq!((made.version, again.version, again.changed), (1, 1, false));
    let elsewhere = Registration { external: None, ..registration.clone() };
    let answer = registry.on_behalf(keyed(3, "k")).register("m", elsewhere).await;
    assert!(matches!(answer, Err(RegistryError::KeyTaken { .. })), "{answer:?}");

    let reborn = gristmill_registry::Registry::new(support::empty_state(2), stores.artifacts.clone());
    reborn.rebuild().await.expect("rebuilt");
    assert_eq!(reborn.model("m").await.expect("there").versions[0].external, Some(external()));

    let long = External { source: "s".repeat(100_001), ..external() };
    let answer = registry.on_behalf(ann(4)).register("m", Registration { external: Some(long), ..registration }).await;
    assert!(matches!(answer, Err(RegistryError::TooLong { what: "the source", .. })), "{answer:?}");
}

#[tokio::test]
async fn a_registration_without_an_outside_has_the_bytes_that_it_had() {
    let stores = Stores::new();
    stores.register("one").await;
    let entries = stores.state.log_read("model/m", 0, 10).await.expect("read");
    let LogEntry::Recorded(record) = wire::decode("a fact", &entries[0].body).expect("a record") else { panic!() };
    let text = String::from_utf8_lossy(&entries[0].body).into_owned();
    assert!(!text.contains("external") && !text.contains("stage"), "{text}");
    let expected = Change::VersionRegistered {
        version: 1,
        new: support::unstored("one"),
        lineage: Lineage::default(),
        artifacts: Vec::new(),
        external: None,
    };
    assert_eq!(record.changes, [expected]);
}

#[tokio::test]
async fn a_stage_can_be_left_to_one_version_alone() {
    let stores = three().await;
    let registry = stores.registry();
    let stage = async |version, stage, archive| {
        registry.on_behalf(ann(5)).set_stage("m", version, stage, archive).await.expect("set");
        stages(&registry.model("m").await.expect("there"))
    };
    assert_eq!(stage(1, Stage::Production, false).await, [Stage::Production, Stage::None, Stage::None]);
    assert_eq!(stage(2, Stage::Production, false).await, [Stage::Production, Stage::Production, Stage::None]);
    let facts = registry.model("m").await.expect("there").facts;
    assert_eq!(stage(3, Stage::Production, true).await, [Stage::Archived, Stage::Archived, Stage::Production]);
    assert_eq!(stage(3, Stage::Production, true).await, [Stage::Archived, Stage::Archived, Stage::Production]);
    assert_eq!(registry.model("m").await.expect("there").facts, facts + 1, "one step, and once");
    let answer = registry.on_behalf(ann(6)).set_stage("m", 9, Stage::Staging, true).await;
    assert!(matches!(answer, Err(RegistryError::NoVersion { version: 9, .. })), "{answer:?}");
    let verified = registry.verify(Closely::default()).await.expect("verified");
    assert_eq!(verified.damages, vec![]);
}

#[tokio::test]
async fn a_version_can_go_together_with_its_aliases() {
    let stores = three().await;
    let registry = stores.registry();
    for (alias, version) in [("a", 2), ("b", 2), ("c", 3)] {
        registry.on_behalf(ann(4)).set_alias("m", alias, version).await.expect("set");
    }
    let refused = registry.on_behalf(ann(5)).delete_version("m", 2, Timestamp(99)).await;
    assert!(matches!(refused, Err(RegistryError::InUse { .. })), "{refused:?}");
    registry.on_behalf(ann(5)).delete_version_and_aliases("m", 2, Timestamp(99)).await.expect("deleted");
    let view = registry.model("m").await.expect("there");
    assert_eq!(view.aliases, BTreeMap::from([("c".to_owned(), 3)]));
    assert_eq!(view.versions.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(registry.verify(Closely::default()).await.expect("verified").damages, vec![]);
}

#[tokio::test]
async fn models_are_found_without_a_look_at_the_others() {
    let stores = three().await;
    let registry = stores.registry();
    assert!(registry.find("other").await.expect("asked").is_none());
    assert_eq!(registry.find("m").await.expect("asked").expect("there").versions.len(), 3);
    registry.on_behalf(ann(5)).create("other", "", &BTreeMap::new()).await.expect("made");
    let names: Vec<String> = registry.models().await.expect("all").iter().map(|model| model.name.clone()).collect();
    assert_eq!(names, ["m", "other"]);
    assert!(matches!(registry.find("a/b").await, Err(RegistryError::BadName { .. })));
}
