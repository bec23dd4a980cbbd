//! Versions of one model, registered by many at once: numbers without gap and duplicate.

mod support;

use std::sync::Arc;

use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::state::State;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_protocol::Timestamp;
use gristmill_registry::{Act, Closely, Registration, Registry};
use support::{Stores, ann, unstored};

const WRITERS: u64 = 64;

/// Registers one version from each of many threads; the numbers that they got, in order.
fn race(registries: Vec<Registry>, artifacts: &Arc<DirectoryArtifacts>) -> Vec<u64> {
    let start = Arc::new(std::sync::Barrier::new(registries.len()));
    let threads: Vec<_> = registries
        .into_iter()
        .enumerate()
        .map(|(writer, registry)| {
            let (start, artifacts) = (Arc::clone(&start), Arc::clone(artifacts));
            std::thread::spawn(move || {
                use gristmill_backends::artifacts::Artifacts as _;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let bytes = format!("model of writer {writer}");
                    artifacts.put(bytes.clone().into()).await.expect("put");
                    start.wait();
                    let act = Act { by: format!("writer {writer}"), at: Timestamp(5), ..Act::default() };
                    let registration =
                        Registration { alias: Some("newest".to_owned()), ..Registration::of(unstored(&bytes)) };
                    registry.on_behalf(act).register("m", registration).await.expect("registered").version
                })
            })
        })
        .collect();
    let mut numbers: Vec<u64> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
    numbers.sort_unstable();
    numbers
}

async fn check_whole(registry: &Registry) {
    let view = registry.model("m").await.expect("there");
    let numbers: Vec<u64> = view.versions.iter().map(|version| version.version).collect();
    assert_eq!(numbers, (1..=WRITERS).collect::<Vec<_>>());
    assert_eq!(view.moves.last().map(|moved| moved.to), view.aliases.get("newest").copied());
    let verified = registry.verify(Closely { read_artifacts: true }).await.expect("verified");
    assert_eq!((verified.damages, verified.uncopied, verified.facts), (vec![], 0, WRITERS));
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_with_a_registry_each_get_numbers_without_gaps() {
    let home = tempfile::tempdir().expect("a folder");
    let state: Arc<dyn State> = Arc::new(EmbeddedState::open(home.path(), Synchronous::Normal).expect("it opens"));
    let artifacts = Arc::new(DirectoryArtifacts::open(&home.path().join("artifacts")).expect("it opens"));
    // A registry each: nothing but the stores keeps them apart.
    let registries = (0..WRITERS).map(|_| Registry::new(Arc::clone(&state), artifacts.clone())).collect();
    let numbers = tokio::task::block_in_place(|| race(registries, &artifacts));
    assert_eq!(numbers, (1..=WRITERS).collect::<Vec<_>>());
    check_whole(&Registry::new(state, artifacts)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_share_a_registry_get_numbers_without_gaps() {
    let stores = Stores::new();
    let registry = stores.registry();
    let registries = (0..WRITERS).map(|_| registry.clone()).collect();
    let numbers = tokio::task::block_in_place(|| race(registries, &stores.artifacts));
    assert_eq!(numbers, (1..=WRITERS).collect::<Vec<_>>());
    check_whole(&stores.registry()).await;
}

#[tokio::test]
async fn a_number_is_not_used_again() {
    let stores = Stores::new();
    assert_eq!((stores.register("a").await, stores.register("b").await), (1, 2));
    let registry = stores.registry();
    registry.on_behalf(ann(2)).delete_version("m", 2, Timestamp(9)).await.expect("deleted");
    assert_eq!(stores.register("c").await, 3);
    registry.on_behalf(ann(3)).delete_model("m", Timestamp(9)).await.expect("deleted");
    assert_eq!(stores.register("d").await, 4);
    let view = registry.model("m").await.expect("there again");
    assert_eq!((view.versions.len(), view.deleted.len()), (1, 3));
}
