//! Immutable bytes by digest.

use std::sync::Arc;

use bytes::Bytes;
use gristmill_protocol::Digest;

use super::{ArtifactsFixture, cases, race};
use crate::artifacts::{ArtifactError, Artifacts};

type Fixture = Arc<dyn ArtifactsFixture>;

cases!(ArtifactsFixture:
    bytes_come_back_as_they_were_put,
    the_same_bytes_are_kept_once,
    racing_puts_of_the_same_bytes_all_succeed,
    a_file_of_the_scratch_folder_becomes_an_artifact,
    a_file_from_elsewhere_stays_where_it_is,
    a_file_that_is_not_there_is_an_error,
    what_is_missing_is_said_to_be,
    a_range_gives_just_those_bytes,
    artifacts_are_listed_in_order,
    a_deleted_artifact_is_gone,
    a_local_file_has_the_bytes,
    marks_are_listed_in_order,
    what_can_not_be_a_mark_is_refused,
);

/// Some bytes that don't repeat soon.
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

async fn put(artifacts: &dyn Artifacts, bytes: &Bytes) -> Digest {
    artifacts.put(bytes.clone()).await.expect("put")
}

async fn bytes_come_back_as_they_were_put(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    for len in [0, 1, 100, 64 * 1024, 64 * 1024 + 1, 5 << 20] {
        let bytes = noise(len);
        let digest = put(&*artifacts, &bytes).await;
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(artifacts.get(digest).await.expect("there"), bytes);
        assert_eq!(artifacts.size(digest).await.expect("answered"), Some(len as u64));
    }
}

async fn the_same_bytes_are_kept_once(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let bytes = noise(1_000);
    let digest = put(&*artifacts, &bytes).await;
    assert_eq!(put(&*artifacts, &bytes).await, digest);
    assert_eq!(artifacts.list(None, 10).await.expect("listed"), [(digest, 1_000)]);
}

async fn racing_puts_of_the_same_bytes_all_succeed(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    for len in [10, 300_000] {
        let bytes = noise(len);
        let digests = race(16, |_| {
            let (artifacts, bytes) = (Arc::clone(&artifacts), bytes.clone());
            async move {
                let digest = artifacts.put(bytes.clone()).await.expect("put");
                assert_eq!(artifacts.get(digest).await.expect("there as soon as it is put"), bytes);
                digest
            }
        });
        assert!(digests.await.iter().all(|digest| *digest == Digest::of(&bytes)));
    }
    assert_eq!(artifacts.list(None, 10).await.expect("listed").len(), 2);
}

async fn a_file_of_the_scratch_folder_becomes_an_artifact(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let bytes = noise(700_000);
    for round in 0..2 {
        let path = artifacts.scratch().join(format!("partition-{round}"));
        std::fs::write(&path, &bytes).expect("scratch can be written to");
        let (digest, size) = artifacts.put_file(&path).await.expect("put");
        assert_eq!((digest, size), (Digest::of(&bytes), 700_000));
        assert_eq!(artifacts.get(digest).await.expect("there"), bytes);
        assert!(!path.exists(), "what is in scratch is moved");
    }
}

async fn a_file_from_elsewhere_stays_where_it_is(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let folder = tempfile::tempdir().expect("a folder");
    for len in [0, 3, 1_000_000] {
        let bytes = noise(len);
        let path = folder.path().join("data.csv");
        std::fs::write(&path, &bytes).expect("written");
        let (digest, size) = artifacts.put_file(&path).await.expect("put");
        assert_eq!((digest, size), (Digest::of(&bytes), len as u64));
        assert_eq!(artifacts.get(digest).await.expect("there"), bytes);
        assert_eq!(std::fs::read(&path).expect("still there"), bytes);
    }
}

async fn a_file_that_is_not_there_is_an_error(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    for path in [artifacts.scratch().join("nothing"), "/nowhere/at/all".into()] {
        let answer = artifacts.put_file(&path).await;
        assert!(matches!(answer, Err(ArtifactError::Io { .. })), "{answer:?}");
    }
    assert_eq!(artifacts.list(None, 10).await.expect("listed"), []);
}

async fn what_is_missing_is_said_to_be(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let digest = Digest::of(b"never put");
    let missing = |answer: Result<Bytes, ArtifactError>| {
        assert!(matches!(answer, Err(ArtifactError::Missing { digest: of }) if of == digest), "{answer:?}");
    };
    missing(artifacts.get(digest).await);
    missing(artifacts.range(digest, 0, 0).await);
    missing(artifacts.range(digest, 5, 1 << 30).await);
    assert_eq!(artifacts.size(digest).await.expect("answered"), None);
    assert_eq!(artifacts.local_path(digest), None);
}

async fn a_range_gives_just_those_bytes(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let bytes = noise(200_000);
    let digest = put(&*artifacts, &bytes).await;
    for (offset, len) in [(0, 10), (199_990, 10), (200_000, 0), (5, 0), (1_000, 150_000), (0, 200_000)] {
        let range = artifacts.range(digest, offset, len).await.expect("in range");
        assert_eq!(range, bytes.slice(offset as usize..(offset + len) as usize));
    }
    for (offset, len) in [(199_990, 11), (200_001, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let answer = artifacts.range(digest, offset, len).await;
        assert!(matches!(answer, Err(ArtifactError::OutOfRange { size: 200_000, .. })), "{answer:?}");
    }
}

async fn artifacts_are_listed_in_order(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let mut expected = Vec::new();
    for len in 0..40 {
        expected.push((put(&*artifacts, &noise(len)).await, len as u64));
    }
    expected.sort_by_key(|(digest, _)| *digest.as_bytes());
    let mut listed: Vec<(Digest, u64)> = Vec::new();
    loop {
        let part = artifacts.list(listed.last().map(|(digest, _)| *digest), 7).await.expect("listed");
        if part.is_empty() {
            break;
        }
        assert!(part.len() <= 7);
        listed.extend(part);
    }
    assert_eq!(listed, expected);
}

async fn a_deleted_artifact_is_gone(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let bytes = noise(50);
    let digest = put(&*artifacts, &bytes).await;
    artifacts.delete(digest).await.expect("deleted");
    artifacts.delete(digest).await.expect("again is fine");
    assert_eq!(artifacts.size(digest).await.expect("answered"), None);
    assert_eq!(put(&*artifacts, &bytes).await, digest);
    assert_eq!(artifacts.get(digest).await.expect("there again"), bytes);
}

async fn a_local_file_has_the_bytes(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let bytes = noise(5_000);
    let digest = put(&*artifacts, &bytes).await;
    if let Some(path) = artifacts.local_path(digest) {
        assert!(path.is_absolute());
        assert_eq!(std::fs::read(path).expect("readable"), bytes);
    }
}

async fn marks_are_listed_in_order(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let names = ["a.0", "a-b/1", "a/1", "a/1~2f", "a/2/x", "a/2/y", "a/2-", "b/1", "b/2"];
    for name in names.iter().rev().chain(&names[3..5]) {
        artifacts.mark(name).await.expect("set");
    }
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    for prefix in ["", "a", "a/", "a/2", "a/2/", "b/2", "c"] {
        for limit in [1, 2, 100] {
            let mut listed: Vec<String> = Vec::new();
            loop {
                let after = listed.last().cloned().unwrap_or_default();
                let part = artifacts.marks(prefix, &after, limit).await.expect("listed");
                if part.is_empty() {
                    break;
                }
                assert!(part.len() <= limit);
                listed.extend(part);
            }
            let expected: Vec<&str> = sorted.iter().copied().filter(|name| name.starts_with(prefix)).collect();
            assert_eq!(listed, expected, "marks with `{prefix}`, {limit} at a time");
        }
    }
    assert_eq!(artifacts.list(None, 10).await.expect("listed"), [], "a mark is no artifact");
}

async fn what_can_not_be_a_mark_is_refused(fixture: Fixture) {
    let artifacts = fixture.fresh().await;
    let long = "x".repeat(256);
    for name in ["", "/a", "a/", "a//b", "../a", "a/.b", "A", "a b", "a%20", "é", &long] {
        let answer = artifacts.mark(name).await;
        assert!(matches!(answer, Err(ArtifactError::Io { .. })), "`{name}`: {answer:?}");
    }
    assert!(artifacts.marks("", "", 10).await.expect("listed").is_empty());
}
