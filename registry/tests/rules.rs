//! What each verb refuses and what it leaves behind.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gristmill_backends::artifacts::Artifacts as _;
use gristmill_protocol::{Digest, ErrorCode, RunId, Timestamp};
use gristmill_registry::{
    Act, Closely, Lineage, NewVersion, Origin, Promotion, Registration, RegistryError, Signer, TrustError, TrustPolicy,
    VersionRef, VersionView,
};
use support::{Brief as _, Stores, ann, damage, unstored};

fn version(name: &str, version: u64) -> VersionRef {
    VersionRef { name: name.to_owned(), version }
}

async fn three() -> Stores {
    let stores = Stores::new();
    for bytes in ["one", "two", "three"] {
        stores.register(bytes).await;
    }
    stores
}

#[tokio::test]
async fn a_promotion_goes_by_the_gates_evidence() {
    let stores = three().await;
    let registry = stores.registry();
    let good = stores.evidence(Digest::of(b"one"), true).await;
    let bad = stores.evidence(Digest::of(b"one"), false).await;
    let junk = stores.put("no evidence at all").await;
    let promote = async |version, evidence| {
        registry.on_behalf(ann(5)).promote("m", version, "champion", Promotion::Evidence(evidence)).await
    };
    let rejected = promote(1, bad).await.expect_err("a gate said no");
    assert_eq!(
        rejected.to_string(),
        "version 1 of model `m` can't be promoted: the gates said no: accuracy 0.7 is under 0.8"
    );
    assert_eq!(rejected.code(), ErrorCode::Conflict);
    assert!(matches!(promote(2, good).await, Err(RegistryError::OtherModel { version: 2, .. })));
    assert!(matches!(promote(1, junk).await, Err(RegistryError::BadEvidence { .. })));
    let missing = promote(1, Digest::of(b"nowhere")).await.expect_err("it isn't there");
    assert_eq!(missing.code(), ErrorCode::ArtifactMissing);
    assert!(registry.model("m").await.expect("there").aliases.is_empty());
    promote(1, good).await.expect("the gates passed it");
    assert_eq!(registry.resolve("m@champion").await.expect("there").1, 1);
}

#[tokio::test]
async fn a_promotion_without_evidence_of_its_own_goes_by_the_versions() {
    let stores = Stores::new();
    let registry = stores.registry();
    let evidence = stores.evidence(Digest::of(b"one"), false).await;
    let new = NewVersion { evidence: Some(evidence), ..stores.model("one").await };
    registry.on_behalf(ann(1)).register("m", Registration::of(new)).await.expect("registered");
    let answer = registry.promote("m", 1, "champion", "ann", "", Timestamp(2)).await;
    assert!(matches!(answer, Err(RegistryError::Rejected { .. })), "{answer:?}");
    registry.on_behalf(ann(2)).set_alias("m", "champion", 1).await.expect("an alias is set whatever gates say");
}

#[tokio::test]
async fn a_rollback_happens_only_when_its_target_loads() {
    let stores = three().await;
    let registry = stores.registry();
    for version in [1, 2, 3] {
        registry.on_behalf(ann(version)).set_alias("m", "champion", version).await.expect("set");
    }
    let refused = registry.on_behalf(ann(9)).rollback("m", "champion", &|_, _| Err("no such layer".to_owned())).await;
    assert_eq!(refused.expect_err("refused").to_string(), "version 2 of model `m` can't take over: no such layer");
    assert_eq!(registry.model("m").await.expect("there").aliases["champion"], 3);
    let calls = AtomicUsize::new(0);
    let prove = |version: &VersionView, bytes: &Bytes| {
        calls.fetch_add(1, Ordering::Relaxed);
        assert_eq!((version.version, &bytes[..]), (2, &b"two"[..]));
        Ok(())
    };
    let moved = registry.on_behalf(ann(9)).rollback("m", "champion", &prove).await;
    assert_eq!(moved.expect("back").to, 2);
    assert_eq!(calls.load(Ordering::Relaxed), 1);

    damage(&stores.artifact_path(Digest::of(b"one")), b"eno");
    let answer = registry.rollback("m", "champion", "ann", "", Timestamp(9)).await;
    assert_eq!(answer.expect_err("its bytes are damaged").code(), ErrorCode::ArtifactCorrupt);
    stores.artifacts.delete(Digest::of(b"one")).await.expect("deleted");
    let answer = registry.rollback("m", "champion", "ann", "", Timestamp(9)).await;
    assert!(matches!(answer, Err(RegistryError::BytesMissing { .. })), "{answer:?}");
    assert_eq!(registry.model("m").await.expect("there").aliases["champion"], 2);
}

#[tokio::test]
async fn an_alias_is_known_at_every_time() {
    let stores = three().await;
    let registry = stores.registry();
    registry.on_behalf(ann(100)).set_alias("m", "champion", 1).await.expect("set");
    registry.on_behalf(ann(200)).promote("m", 2, "champion", Promotion::OwnEvidence).await.expect("promoted");
    registry.on_behalf(ann(300)).rollback("m", "champion", &|_, _| Ok(())).await.expect("back");
    registry.on_behalf(ann(400)).remove_alias("m", "champion").await.expect("removed");
    let mut at = Vec::new();
    for time in [99, 100, 250, 300, 399, 400] {
        at.push(registry.alias_at("m", "champion", Timestamp(time)).await.expect("answered"));
    }
    assert_eq!(at, [None, Some(1), Some(2), Some(1), Some(1), None]);
    // A clock that goes back doesn't make history go back.
    registry.on_behalf(ann(50)).set_alias("m", "champion", 3).await.expect("set");
    assert_eq!(registry.alias_at("m", "champion", Timestamp(399)).await.expect("answered"), Some(1));
    assert_eq!(registry.alias_at("m", "champion", Timestamp(400)).await.expect("answered"), Some(3));
    let view = registry.model("m").await.expect("there");
    let why: Vec<_> = view.history["champion"].iter().map(|point| point.why.as_deref()).collect();
    assert_eq!(why, [Some("because"); 5]);
}

#[tokio::test]
async fn nothing_unsigned_leaves_a_registry_that_asks_for_signatures() {
    let stores = three().await;
    let (ours, theirs) = (Signer::from_seed([1; 32]), Signer::from_seed([2; 32]));
    let policy = TrustPolicy { require_signatures: true, keys: vec![ours.public_key()] };
    let registry = stores.registry().trusting(policy);
    let trust = async |reference: &str| match registry.load(reference).await {
        Ok((of, _, bytes)) => Ok((of.version, bytes)),
        Err(RegistryError::Untrusted(error)) => Err(error),
        Err(error) => panic!("{error}"),
    };
    assert!(matches!(trust("m@1").await, Err(TrustError::Unsigned { .. })));
    registry.on_behalf(ann(5)).sign("m", 1, &theirs).await.expect("anybody may sign");
    assert!(matches!(trust("m@1").await, Err(TrustError::UnknownKey { .. })));
    let alias = registry.on_behalf(ann(5)).set_alias("m", "champion", 1).await;
    assert!(matches!(alias, Err(RegistryError::Untrusted(_))), "{alias:?}");
    registry.on_behalf(ann(6)).sign("m", 1, &ours).await.expect("signed");
    assert_eq!(trust("m@1").await.expect("trusted").1, "one");
    registry.on_behalf(ann(6)).set_alias("m", "champion", 1).await.expect("trusted");

    let for_another = ours.sign("m", 2, Digest::of(b"one"));
    let answer = registry.on_behalf(ann(7)).add_signature("m", 1, &for_another).await;
    assert!(matches!(answer, Err(RegistryError::Untrusted(TrustError::Forged { .. }))), "{answer:?}");

    // Signed as it is registered, a version may take an alias at once; else it may not.
    let unsigned = Registration { alias: Some("champion".to_owned()), ..Registration::of(stores.model("four").await) };
    let answer = registry.on_behalf(ann(8)).register("m", unsigned.clone()).await;
    assert_eq!(answer.expect_err("it isn't signed").code(), ErrorCode::Denied);
    let signed = Registration { signer: Some(Arc::new(ours)), ..unsigned };
    let made = registry.on_behalf(ann(8)).register("m", signed).await.expect("registered");
    assert_eq!(trust("m@champion").await.expect("trusted"), (made.version, "four".into()));
}

#[tokio::test]
async fn lineage_is_found_both_ways() {
    let stores = Stores::new();
    let registry = stores.registry();
    let (data, study) = (Digest::of(b"data"), Digest::of(b"study"));
    for (name, bytes, parent) in [("a", "one", None), ("b", "two", Some(version("a", 1))), ("c", "three", None)] {
        let new = NewVersion { run: RunId::from_u128(bytes.len() as u128), ..stores.model(bytes).await };
        let datasets = if name == "c" { vec![] } else { vec![data] };
        let lineage = Lineage { datasets, parent, study: Some(study) };
        let registration = Registration { lineage, ..Registration::of(new) };
        registry.on_behalf(ann(1)).register(name, registration).await.expect("registered");
    }
    let from = async |origin: Origin| registry.versions_from(&origin, "", 100).await.expect("found").items;
    assert_eq!(from(Origin::Dataset(data)).await, [version("a", 1), version("b", 1)]);
    assert_eq!(from(Origin::Parent(version("a", 1))).await, [version("b", 1)]);
    assert_eq!(from(Origin::Run(RunId::from_u128(5))).await, [version("c", 1)]);
    assert_eq!(from(Origin::Model(Digest::of(b"two"))).await, [version("b", 1)]);
    assert_eq!(from(Origin::Study(Digest::of(b"other"))).await, []);

    let page = registry.versions_from(&Origin::Study(study), "", 2).await.expect("found");
    assert_eq!((page.items.len(), page.next.as_deref()), (2, Some("b")));
    let rest = registry.versions_from(&Origin::Study(study), "b", 2).await.expect("found");
    assert_eq!((rest.items, rest.next), (vec![version("c", 1)], None));

    for (at, output) in [(5, "x"), (6, "y"), (6, "y"), (7, "z")] {
        let act = Act { trace: Some(RunId::from_u128(at)), ..ann(at.try_into().expect("small")) };
        registry
            .on_behalf(act)
            .scored(&version("a", 1), Digest::of(output.as_bytes()), 10, Some(data))
            .await
            .expect("noted");
    }
    let page = registry.predictions(&version("a", 1), 0, 2).await.expect("found");
    assert_eq!((page.items.len(), page.next), (2, Some(2)));
    assert_eq!(
        (page.items[1].run, page.items[1].rows, page.items[1].input),
        (Some(RunId::from_u128(6)), 10, Some(data))
    );
    let rest = registry.predictions(&version("a", 1), 2, 2).await.expect("found");
    assert_eq!((rest.items[0].output, rest.items.len(), rest.next), (Digest::of(b"z"), 1, None));
    assert!(registry.predictions(&version("b", 1), 0, 9).await.expect("found").items.is_empty());
}

#[tokio::test]
async fn deleted_versions_keep_their_artifacts_until_their_time() {
    let stores = three().await;
    let registry = stores.registry();
    registry.on_behalf(ann(1)).set_alias("m", "champion", 1).await.expect("set");
    let in_use = registry.on_behalf(ann(2)).delete_version("m", 1, Timestamp(50)).await;
    assert!(matches!(in_use, Err(RegistryError::InUse { .. })), "{in_use:?}");
    // Another model has the bytes of version 3 too.
    let shared = Registration::of(unstored("three"));
    registry.on_behalf(ann(2)).register("other", shared).await.expect("registered");
    for number in [2, 3] {
        registry.on_behalf(ann(3)).delete_version("m", number, Timestamp(50)).await.expect("deleted");
    }
    assert!(matches!(registry.resolve("m@2").await, Err(RegistryError::VersionDeleted { version: 2, .. })));
    assert_eq!(registry.on_behalf(ann(49)).purge().await.expect("nothing is due"), []);
    assert!(stores.artifacts.size(Digest::of(b"two")).await.expect("answered").is_some());
    assert_eq!(registry.on_behalf(ann(50)).purge().await.expect("purged"), [version("m", 2), version("m", 3)]);
    assert!(stores.artifacts.size(Digest::of(b"two")).await.expect("answered").is_none());
    assert!(stores.artifacts.size(Digest::of(b"three")).await.expect("answered").is_some(), "another needs it");
    assert_eq!(registry.on_behalf(ann(60)).purge().await.expect("nothing is left"), []);
    assert_eq!(registry.verify(Closely { read_artifacts: true }).await.expect("verified").damages, []);
}

#[tokio::test]
async fn what_is_erased_is_gone_and_the_chain_says_so() {
    let stores = three().await;
    let registry = stores.registry();
    registry.on_behalf(ann(1)).set_alias("m", "champion", 1).await.expect("set");
    let scores = stores.put("scores").await;
    registry.on_behalf(ann(2)).scored(&version("m", 2), scores, 1, None).await.expect("noted");
    let unknown = registry.on_behalf(ann(3)).erase("case 7", &[Digest::of(b"what?")]).await;
    assert!(matches!(unknown, Err(RegistryError::NotMentioned { .. })), "{unknown:?}");
    let erased = registry.on_behalf(ann(3)).erase("case 7", &[Digest::of(b"one"), scores]).await.expect("erased");
    assert_eq!(erased.models, ["m"]);
    assert_eq!(erased.aliased, [(version("m", 1), "champion".to_owned())]);
    assert_eq!(stores.artifacts.size(scores).await.expect("answered"), None);
    assert!(registry.load("m@champion").await.is_err());
    assert_eq!(registry.verify(Closely { read_artifacts: true }).await.expect("verified").damages, []);
    stores.put("scores").await;
    let back = registry.verify(Closely::default()).await.expect("verified").damages;
    assert!(back.len() == 1 && back[0].what.contains("the erased artifact"), "{back:?}");
}

#[tokio::test]
async fn a_renamed_model_takes_everything_along() {
    let stores = three().await;
    let registry = stores.registry();
    registry.on_behalf(ann(10)).set_alias("m", "champion", 2).await.expect("set");
    registry.on_behalf(ann(11)).scored(&version("m", 2), Digest::of(b"s"), 1, None).await.expect("noted");
    registry.on_behalf(ann(12)).rename("m", "n").await.expect("renamed");
    assert!(matches!(registry.model("m").await, Err(RegistryError::NoModel { .. })));
    assert_eq!(registry.names().await.expect("listed"), ["n"]);
    let view = registry.model("n").await.expect("there");
    assert_eq!((view.name.as_str(), &view.formerly[..], view.versions.len()), ("n", &["m".to_owned()][..], 3));
    assert_eq!(registry.alias_at("n", "champion", Timestamp(11)).await.expect("answered"), Some(2));
    assert_eq!(registry.predictions(&version("n", 2), 0, 9).await.expect("found").items.len(), 1);

    // Numbers go on there, and begin anew under the name that is free.
    let next = Registration::of(stores.model("four").await);
    assert_eq!(registry.on_behalf(ann(13)).register("n", next.clone()).await.expect("registered").version, 4);
    assert_eq!(registry.on_behalf(ann(13)).register("m", next).await.expect("registered").version, 1);
    let taken = registry.on_behalf(ann(14)).rename("n", "m").await;
    assert!(matches!(taken, Err(RegistryError::ModelExists { .. })), "{taken:?}");
    registry.on_behalf(ann(15)).rename("n", "o").await.expect("renamed again");
    let view = registry.model("o").await.expect("there");
    assert_eq!((view.versions.len(), &view.formerly[..]), (4, &["m".to_owned(), "n".to_owned()][..]));
    assert_eq!(registry.verify(Closely { read_artifacts: true }).await.expect("verified").damages, []);
}

#[tokio::test]
async fn tags_and_descriptions_say_what_was_before() {
    let stores = three().await;
    let registry = stores.registry();
    let acting = registry.on_behalf(ann(5));
    acting.tag("m", None, "team", Some("risk")).await.expect("tagged");
    acting.tag("m", Some(2), "stage", Some("test")).await.expect("tagged");
    acting.tag("m", Some(2), "stage", Some("live")).await.expect("tagged");
    acting.tag("m", Some(2), "stage", Some("live")).await.expect("nothing to do");
    acting.tag("m", None, "team", None).await.expect("removed");
    acting.describe("m", Some(2), "the second").await.expect("described");
    let view = registry.model("m").await.expect("there");
    assert!(view.tags.is_empty());
    assert_eq!(view.version(2).expect("there").tags, BTreeMap::from([("stage".to_owned(), "live".to_owned())]));
    assert_eq!(view.facts, 8);
    let facts = registry.facts("m", 5, 1).await.expect("read");
    let text = format!("{:?}", facts[0].1);
    assert!(text.contains(r#"before: Some("test"), after: Some("live")"#), "{text}");
    let error = acting.tag("m", Some(9), "stage", None).await.expect_err("there is none");
    assert_eq!(error.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn names_that_would_mislead_are_refused() {
    let stores = three().await;
    let registry = stores.registry();
    let new = stores.model("four").await;
    for name in ["", "a@b", "a/b", "a:b", "a\nb", &"x".repeat(81)] {
        let answer = registry.on_behalf(ann(1)).register(name, Registration::of(new.clone())).await;
        assert!(matches!(answer, Err(RegistryError::BadName { .. })), "`{name}`: {answer:?}");
    }
    for alias in ["", "7", "a\u{0}"] {
        let answer = registry.on_behalf(ann(1)).set_alias("m", alias, 1).await;
        assert!(matches!(answer, Err(RegistryError::BadName { .. })), "`{alias}`: {answer:?}");
    }
    let exists = registry.on_behalf(ann(1)).create("m", "", &BTreeMap::new()).await;
    assert!(matches!(exists, Err(RegistryError::ModelExists { .. })));
    registry.on_behalf(ann(1)).create("empty", "to be filled", &BTreeMap::new()).await.expect("made");
    let view = registry.model("empty").await.expect("there");
    assert_eq!((view.description.as_str(), view.versions.len()), ("to be filled", 0));
}

/// Servers run every verb on threads of their choice.
#[tokio::test]
async fn every_verb_can_move_between_threads() {
    fn movable<T: Send>(_: T) {}
    let stores = Stores::new();
    let registry = stores.registry();
    let acting = registry.on_behalf(ann(1));
    let (digest, of) = (Digest::of(b"one"), version("m", 1));
    let (signer, tags) = (Signer::from_seed([1; 32]), BTreeMap::new());
    movable(registry.names());
    movable(registry.model("m"));
    movable(registry.resolve("m@1"));
    movable(registry.load("m@1"));
    movable(registry.facts("m", 0, 1));
    movable(registry.versions_from(&Origin::Dataset(digest), "", 1));
    movable(registry.predictions(&of, 0, 1));
    movable(registry.verify(Closely::default()));
    movable(registry.rebuild());
    movable(registry.reconcile());
    movable(acting.create("m", "", &tags));
    movable(acting.register("m", Registration::of(unstored("one"))));
    movable(acting.set_alias("m", "champion", 1));
    movable(acting.remove_alias("m", "champion"));
    movable(acting.promote("m", 1, "champion", Promotion::OwnEvidence));
    movable(acting.rollback("m", "champion", &|_, _| Ok(())));
    movable(acting.tag("m", None, "team", None));
    movable(acting.describe("m", None, ""));
    movable(acting.sign("m", 1, &signer));
    movable(acting.delete_version("m", 1, Timestamp(1)));
    movable(acting.delete_model("m", Timestamp(1)));
    movable(acting.rename("m", "n"));
    movable(acting.scored(&of, digest, 1, None));
    movable(acting.purge());
    movable(acting.erase("case 7", &[digest]));
}
