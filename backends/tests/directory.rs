//! A folder of artifacts through crashes, neighbours and bad disks.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use expect_test::expect;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_protocol::Digest;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(root: &Path) -> DirectoryArtifacts {
    DirectoryArtifacts::open(root).expect("the folder opens")
}

/// Files and folders in the folder for unfinished work, but for the lock that openers share.
fn unfinished(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("tmp")).expect("it is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "lock");
    names
}

/// Writes into an artifact's file behind the store's back.
fn damage(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).expect("removed");
    std::fs::write(path, bytes).expect("written");
}

#[tokio::test]
async fn damage_is_found_when_an_artifact_is_read() {
    let root = folder();
    let artifacts = open(root.path());
    let digest = artifacts.put(Bytes::from_static(b"good bytes")).await.expect("put");
    let path = artifacts.local_path(digest).expect("it is a file");
    damage(&path, b"evil bytes");
    let answer = artifacts.get(digest).await;
    assert!(matches!(&answer, Err(ArtifactError::Corrupt { found, .. }) if *found == Digest::of(b"evil bytes")));
    let text = answer.expect_err("it is damaged").to_string();
    expect!["artifact `sha256:d6004ba597d097dfd95ac55076dbf03325b89d41b94fe8366c310a779ae57be5` is damaged: its bytes have the digest `sha256:bf0d6d3f14b00453cb97ecac5518862b111129bdad240982948257fb1cc6100c`"]
        .assert_eq(&text);
}

#[tokio::test]
async fn a_truncated_artifact_is_mended_by_putting_it_again() {
    let root = folder();
    let artifacts = open(root.path());
    let bytes = Bytes::from(vec![5; 10_000]);
    let digest = artifacts.put(bytes.clone()).await.expect("put");
    damage(&artifacts.local_path(digest).expect("it is a file"), b"short");
    artifacts.put(bytes.clone()).await.expect("put again");
    assert_eq!(artifacts.get(digest).await.expect("whole again"), bytes);
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_and_a_live_ones_is_not() {
    let root = folder();
    let live = open(root.path());
    std::fs::write(live.scratch().join("partition"), b"at work").expect("written");
    // A process that was killed leaves its folder and a lock that nobody holds.
    let dead = root.path().join("tmp/0123456789abcdef");
    std::fs::create_dir_all(dead.join("spill")).expect("made");
    std::fs::write(dead.join("spill/0"), b"left").expect("written");
    std::fs::write(dead.with_extension("lock"), b"").expect("written");
    let other = open(root.path());
    assert!(!dead.exists() && !dead.with_extension("lock").exists());
    assert!(live.scratch().join("partition").exists());
    assert_ne!(live.scratch(), other.scratch());
    drop(live);
    drop(other);
    assert_eq!(unfinished(root.path()), Vec::<String>::new());
}

#[tokio::test]
async fn two_processes_share_a_folder() {
    let root = folder();
    let (one, two) = (open(root.path()), open(root.path()));
    let digest = one.put(Bytes::from_static(b"shared")).await.expect("put");
    assert_eq!(two.get(digest).await.expect("there").as_ref(), b"shared");
    assert_eq!(two.put(Bytes::from_static(b"shared")).await.expect("put"), digest);
    assert_eq!(one.list(None, 10).await.expect("listed").len(), 1);
}

#[tokio::test]
async fn files_that_people_put_there_are_passed_over() {
    let root = folder();
    let artifacts = open(root.path());
    std::fs::create_dir_all(root.path().join("sha256/ab/cd")).expect("made");
    std::fs::write(root.path().join("sha256/ab/notes.txt"), b"").expect("written");
    assert_eq!(artifacts.list(None, 10).await.expect("listed"), []);
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let root = folder();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(root.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let artifacts = open(root.path());
    let small = artifacts.put(Bytes::from_static(b"small")).await.expect("there is room");
    let source = folder();
    let large = source.path().join("large");
    std::fs::write(&large, vec![9; 3 << 20]).expect("written");
    let answers =
        [artifacts.put(Bytes::from(vec![9; 3 << 20])).await.map(|_| ()), artifacts.put_file(&large).await.map(|_| ())];
    for answer in answers {
        let error = answer.expect_err("there is no room");
        assert!(
            matches!(&error, ArtifactError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
            "{error:?}"
        );
    }
    assert_eq!(artifacts.list(None, 10).await.expect("listed"), [(small, 5)]);
    assert_eq!(std::fs::read_dir(artifacts.scratch()).expect("readable").count(), 0);
    // There is as much room as before.
    artifacts.put(Bytes::from(vec![1; 700 << 10])).await.expect("there is room for this");
    drop(artifacts);
    assert!(Command::new("umount").arg(root.path()).status().is_ok_and(|status| status.success()));
}

#[test]
fn a_folder_that_cannot_be_made_says_so() {
    let place = folder();
    std::fs::write(place.path().join("file"), b"").expect("written");
    let error = DirectoryArtifacts::open(&place.path().join("file")).expect_err("it is a file");
    let text = error.to_string().replace(&place.path().display().to_string(), "ROOT");
    expect!["failed to make the folder of an artifact at `ROOT/file/sha256`"].assert_eq(&text);
}
