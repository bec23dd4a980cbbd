//! Stores that break off at every point of a change: it happened wholly or not at all, and can be said again.

mod support;

use std::sync::Arc;

use gristmill_protocol::Timestamp;
use gristmill_registry::{
    Act, Closely, ModelView, Promotion, Registration, Registry, RegistryError, Signer, VersionRef,
};
use support::{Failing, Fuse, Stores, ann, keyed};

/// One kind of change, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Register,
    Promote,
    Rollback,
    Rename,
    Score,
    Erase,
}

async fn change(registry: &Registry, kind: Kind, act: Act, stores: &Stores) -> Result<(), RegistryError> {
    let acting = registry.on_behalf(act);
    match kind {
        Kind::Register => {
            let registration = Registration {
                alias: Some("newest".to_owned()),
                description: "the third".to_owned(),
                signer: Some(Arc::new(Signer::from_seed([3; 32]))),
                ..Registration::of(stores.model("three").await)
            };
            acting.register("m", registration).await.map(drop)
        }
        Kind::Promote => {
            let evidence = stores.evidence(gristmill_protocol::Digest::of(b"one"), true).await;
            acting.promote("m", 1, "other", Promotion::Evidence(evidence)).await
        }
        Kind::Rollback => acting.rollback("m", "champion", &|_, _| Ok(())).await.map(drop),
        Kind::Rename => acting.rename("m", "n").await,
        Kind::Score => {
            let of = VersionRef { name: "m".to_owned(), version: 1 };
            acting.scored(&of, gristmill_protocol::Digest::of(b"scores"), 5, None).await
        }
        Kind::Erase => acting.erase("case 7", &[gristmill_protocol::Digest::of(b"one")]).await.map(drop),
    }
}

/// Two versions and an alias that pointed to both.
async fn prepared() -> Stores {
    let stores = Stores::new();
    let registry = stores.registry();
    for (bytes, version) in [("one", 1), ("two", 2)] {
        assert_eq!(stores.register(bytes).await, version);
        registry.on_behalf(ann(2)).set_alias("m", "champion", version).await.expect("set");
    }
    stores
}

/// All that can be seen of the model, wherever it is.
async fn seen(stores: &Stores) -> (Vec<ModelView>, usize) {
    let registry = stores.registry();
    let mut views = Vec::new();
    for name in registry.names().await.expect("listed") {
        let mut view = registry.model(&name).await.expect("there");
        // A name that was claimed has one fact more.
        view.facts = 0;
        views.push(view);
    }
    let mut scored = 0;
    for view in &views {
        let of = VersionRef { name: view.name.clone(), version: 1 };
        scored += registry.predictions(&of, 0, 100).await.expect("listed").items.len();
    }
    (views, scored)
}

async fn check_every_point(kind: Kind, with_key: bool) {
    let act = |at| if with_key { keyed(at, "k1") } else { ann(at) };
    let after_all = {
        let stores = prepared().await;
        change(&stores.registry(), kind, act(3), &stores).await.expect("nothing fails");
        seen(&stores).await
    };
    let mut points = 0;
    for after in [false, true] {
        for blows_at in 1.. {
            let stores = prepared().await;
            let before = seen(&stores).await;
            let fuse = Fuse::new(blows_at, after);
            let state = Arc::new(Failing { inner: stores.state.clone(), fuse: Arc::clone(&fuse) });
            let artifacts = Arc::new(Failing { inner: stores.artifacts.clone(), fuse: Arc::clone(&fuse) });
            let answer = change(&Registry::new(state, artifacts), kind, act(3), &stores).await;
            if !fuse.has_blown() {
                answer.expect("nothing failed");
                break;
            }
            points += 1;
            let place = format!("{kind:?} at call {blows_at}, which took effect: {after}");
            assert!(answer.is_err(), "{place}: it can't have been acknowledged");

            let found = seen(&stores).await;
            assert!(found == before || found == after_all, "{place}: it happened in part: {found:#?}");
            let verified = stores.registry().verify(Closely { read_artifacts: true }).await.expect("verified");
            if kind != Kind::Erase {
                assert_eq!(verified.damages, [], "{place}");
            }

            // A rollback without a key that happened would go back once more, so only a key lets it be said again.
            if with_key || kind != Kind::Rollback {
                change(&stores.registry(), kind, act(3), &stores).await.expect("said again");
                let again = seen(&stores).await;
                assert_eq!(again, after_all, "{place}: said again, it must have happened once");
                let verified = stores.registry().verify(Closely { read_artifacts: true }).await.expect("verified");
                assert_eq!((verified.damages, verified.uncopied), (vec![], 0), "{place}: said again");
            }

            // What was acknowledged outlives the state.
            let empty = support::empty_state(2);
            let reborn = Registry::new(empty, stores.artifacts.clone());
            assert_eq!(reborn.rebuild().await.expect("rebuilt").damages, [], "{place}");
            if with_key || kind != Kind::Rollback {
                assert_eq!(
                    reborn.model(&again_name(kind)).await.expect("there").versions.len(),
                    after_all.0[0].versions.len()
                );
            }
        }
    }
    assert!(points >= 10, "{kind:?} has only {points} points");
}

fn again_name(kind: Kind) -> String {
    if kind == Kind::Rename { "n" } else { "m" }.to_owned()
}

macro_rules! at_every_point {
    ($($name:ident: $kind:ident, $with_key:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            check_every_point(Kind::$kind, $with_key).await;
        }
    )*};
}

at_every_point! {
    a_registration_broken_off_anywhere_is_whole: Register, true;
    a_registration_needs_no_key_to_be_said_again: Register, false;
    a_promotion_broken_off_anywhere_is_whole: Promote, true;
    a_promotion_needs_no_key_to_be_said_again: Promote, false;
    a_rollback_broken_off_anywhere_is_whole: Rollback, true;
    a_rollback_without_a_key_happens_once_or_not: Rollback, false;
    a_renaming_broken_off_anywhere_is_whole: Rename, false;
    scores_broken_off_anywhere_are_noted_once: Score, false;
    an_erasure_broken_off_anywhere_can_be_ended: Erase, false;
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let stores = prepared().await;
    let registry = stores.registry();
    for _ in 0..2 {
        let moved = registry.on_behalf(keyed(5, "k")).rollback("m", "champion", &|_, _| Ok(())).await.expect("back");
        assert_eq!((moved.from, moved.to, moved.at), (Some(2), 1, Timestamp(5)));
    }
    let other = registry.on_behalf(keyed(6, "k")).set_alias("m", "champion", 2).await;
    assert!(matches!(other, Err(RegistryError::KeyTaken { .. })), "{other:?}");
}
