//! A home folder through crashes, neighbours and bad disks.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use expect_test::{Expect, expect};
use gristmill_backends::state::embedded::{EmbeddedState, OpenError, Synchronous};
use gristmill_backends::state::{
    Append, AppendEntry, Claim, ClaimItem, Finish, NewRun, RunFilter, State, StateError, StatusChange, StatusFilter,
};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::{InboxEvent, InboxId, Outcome, Report};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};
use tempfile::TempDir;

const SHARD: Shard = Shard(3);
const OWNER: OwnerToken = OwnerToken { epoch: 1, instance: 1 };
/// Says to a test, started again as a child process, which home to work on.
const CHILD_HOME: &str = "GRISTMILL_TEST_CHILD_HOME";
const PATIENCE: Duration = Duration::from_secs(30);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

async fn owner_of(home: &Path) -> EmbeddedState {
    let state = EmbeddedState::open(home, Synchronous::Normal).expect("the home opens");
    state.own(SHARD, OWNER, Duration::from_secs(3_600)).await.expect("the shard is free");
    state
}

fn run_id(key: &str) -> RunId {
    RunId::derive(Timestamp(1_700_000_000_000), "default", key, Some(SHARD))
}

async fn create(state: &EmbeddedState, run: RunId) {
    let new = NewRun {
        run,
        pipeline: "flights".to_owned(),
        namespace: "default".to_owned(),
        entry: vec![1],
        idempotency: None,
    };
    state.create_run(new).await.expect("a run can be made");
}

fn entry(run: RunId, position: u64) -> AppendEntry {
    let body = position.to_be_bytes().repeat(20);
    AppendEntry { run, position, body, settled: vec![], status: StatusChange::None }
}

async fn append(state: &EmbeddedState, entry: AppendEntry, consumed: Vec<InboxId>) -> Result<(), StateError> {
    state.append(Append { shard: SHARD, token: OWNER, id: entry.position, entries: vec![entry], consumed }).await
}

async fn inbox(state: &EmbeddedState) -> Vec<(InboxId, InboxEvent)> {
    let start = [(SHARD, InboxId::default())];
    let found = state.inbox(&start, Duration::ZERO, 100).await.expect("readable");
    found.into_iter().map(|(_, entry)| (entry.id, entry.event)).collect()
}

/// An error as a person reads it, without what differs from machine to machine.
fn chain(error: &dyn std::error::Error, home: &Path) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.replace(&home.display().to_string(), "HOME").replace(&std::process::id().to_string(), "PID")
}

fn check_open_error(error: &OpenError, home: &Path, expected: Expect) {
    let hint = error.hint().unwrap_or_default();
    expected.assert_eq(&format!("{}\nhint: {}\n", chain(error, home), chain_text(&hint, home)));
}

fn chain_text(text: &str, home: &Path) -> String {
    text.replace(&home.display().to_string(), "HOME").replace(&std::process::id().to_string(), "PID")
}

fn open_error(home: &Path) -> OpenError {
    EmbeddedState::open(home, Synchronous::Normal).err().expect("the home doesn't open")
}

#[tokio::test]
async fn what_was_appended_outlives_its_process_and_leases_do_not() {
    let home = folder();
    let (run, over) = (run_id("a"), run_id("b"));
    let attempt = AttemptRef { run, task: TaskKey { index: 0, tag: 1 }, attempt: 1 };
    let first = owner_of(home.path()).await;
    let life = first.clock().await.expect("readable").store;
    create(&first, run).await;
    create(&first, over).await;
    append(&first, AppendEntry { status: StatusChange::Closing, ..entry(run, 2) }, vec![]).await.expect("it fits");
    let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Rejected), ..entry(over, 2) };
    append(&first, ended, vec![]).await.expect("it fits");
    let claim = |worker| {
        let attempts = vec![ClaimItem { attempt, timeout_ms: None }];
        Claim { shard: SHARD, worker, attempts }
    };
    first.claim(claim(WorkerId(1))).await.expect("answered");
    first.post(SHARD, InboxEvent::Cancel { run, by: "me".to_owned() }).await.expect("posted");
    drop(first);

    let second = owner_of(home.path()).await;
    assert_ne!(second.clock().await.expect("readable").store, life);
    let open: Vec<RunId> = second.open_runs(SHARD).await.expect("readable").iter().map(|record| record.run).collect();
    assert_eq!(open, [run]);
    let record = second.run(over).await.expect("readable").expect("there");
    assert_eq!((record.status, record.head), (Some(RunStatus::Rejected), 2));
    // The run is closing still, and a repeated append is known for what it is.
    let answer = second.claim(claim(WorkerId(2))).await.expect("answered");
    assert_eq!(format!("{answer:?}"), "Answers([Over])");
    append(&second, AppendEntry { status: StatusChange::Closing, ..entry(run, 2) }, vec![])
        .await
        .expect("done already");
    // A posted event waits until an append has dealt with it, over any number of lives.
    let posted = inbox(&second).await;
    assert_eq!(posted.len(), 1);
    drop(second);
    let third = owner_of(home.path()).await;
    let posted = inbox(&third).await;
    assert!(matches!(&posted[0].1, InboxEvent::Cancel { by, .. } if by == "me"));
    append(&third, entry(run, 3), vec![posted[0].0]).await.expect("it fits");
    drop(third);
    assert_eq!(inbox(&owner_of(home.path()).await).await.len(), 0);
}

#[tokio::test]
async fn an_ended_run_is_resumed_after_a_restart() {
    let home = folder();
    let run = run_id("a");
    let first = owner_of(home.path()).await;
    create(&first, run).await;
    let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Failed), ..entry(run, 2) };
    append(&first, ended, vec![]).await.expect("it fits");
    drop(first);
    let second = owner_of(home.path()).await;
    let gap = append(&second, AppendEntry { status: StatusChange::Reopened, ..entry(run, 4) }, vec![]).await;
    assert!(matches!(gap, Err(StateError::Moved { expected: 3, found: 2, .. })), "{gap:?}");
    append(&second, AppendEntry { status: StatusChange::Reopened, ..entry(run, 3) }, vec![]).await.expect("it fits");
    assert_eq!(second.open_runs(SHARD).await.expect("readable").len(), 1);
}

/// A home of an earlier version has its tables without the indexes by which runs are found.
#[tokio::test]
async fn a_home_gets_its_indexes_when_it_is_opened() {
    let home = folder();
    let (run, over) = (run_id("a"), run_id("b"));
    let first = owner_of(home.path()).await;
    create(&first, run).await;
    create(&first, over).await;
    let ended = AppendEntry { status: StatusChange::Ended(RunStatus::Failed), ..entry(over, 2) };
    append(&first, ended, vec![]).await.expect("it fits");
    drop(first);
    let database = rusqlite::Connection::open(home.path().join("state.db")).expect("it opens");
    let drop_index = |name| database.execute_batch(&format!("drop index runs_by_{name}"));
    for name in ["state", "namespace", "pipeline", "both", "end"] {
        drop_index(name).expect("it is there");
    }

    let reader = EmbeddedState::open_reader(home.path()).expect("the home opens");
    let namespaces = Some(vec!["default".to_owned()]);
    let failed = Some(StatusFilter::Ended(RunStatus::Failed));
    for (filter, count) in [
        (RunFilter { status: failed, ..RunFilter::default() }, 1),
        (RunFilter { namespaces: namespaces.clone(), ..RunFilter::default() }, 2),
        (RunFilter { pipeline: Some("flights".to_owned()), ..RunFilter::default() }, 2),
        (RunFilter { namespaces, pipeline: Some("flights".to_owned()), status: failed }, 1),
    ] {
        let page = reader.find_runs(&filter, None, 10).await.expect("readable");
        assert_eq!((page.records.len(), page.next), (count, None), "{filter:?}");
    }
    let owner = owner_of(home.path()).await;
    let tick = Duration::from_millis(1);
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            let ended = owner.ended_runs((Timestamp(0), run), 10).await.expect("readable");
            if let Some(record) = ended.first() {
                return record.run;
            }
            tokio::time::sleep(tick).await;
        }
    });
    assert_eq!(told.await, Ok(over));
}

#[tokio::test]
async fn a_home_has_one_owner() {
    let home = folder();
    let state = owner_of(home.path()).await;
    let error = open_error(home.path());
    check_open_error(
        &error,
        home.path(),
        expect![[r#"
            the home `HOME` is in use by process PID
            hint: wait for process PID to end, stop it with `kill PID`, or use another home
        "#]],
    );
    drop(state);
    owner_of(home.path()).await;
}

#[tokio::test]
async fn readers_read_and_post_beside_the_owner() {
    let home = folder();
    let run = run_id("a");
    let owner = owner_of(home.path()).await;
    create(&owner, run).await;
    let reader = EmbeddedState::open_reader(home.path()).expect("the home opens");
    append(&owner, entry(run, 2), vec![]).await.expect("it fits");
    assert_eq!(reader.run(run).await.expect("readable").expect("there").head, 2);
    assert_eq!(reader.runs(None, 10).await.expect("readable").len(), 1);
    assert_eq!(reader.journal(run, 0, 10).await.expect("readable").len(), 2);
    let version = reader.put("doc", 0, vec![1]).await.expect("it doesn't exist");
    assert!(matches!(owner.put("doc", 0, vec![2]).await, Err(StateError::Conflict { .. })));
    owner.put("doc", version, vec![2]).await.expect("the version fits");
    reader.log_append("models/m", 1, 1, vec![1]).await.expect("it follows");
    owner.log_append("models/m", 2, 1, vec![1]).await.expect("it follows");

    // The owner hears of what a reader posts while it waits.
    let seen = inbox(&owner).await.last().expect("the run was made").0;
    reader.post(SHARD, InboxEvent::Cancel { run, by: "reader".to_owned() }).await.expect("posted");
    let heard = tokio::time::timeout(PATIENCE, owner.inbox(&[(SHARD, seen)], PATIENCE, 10)).await;
    let heard = heard.expect("soon").expect("readable");
    assert!(matches!(&heard[0].1.event, InboxEvent::Cancel { by, .. } if by == "reader"));
    append(&owner, entry(run, 3), vec![heard[0].1.id]).await.expect("it fits");
    drop(owner);
    assert!(inbox(&owner_of(home.path()).await).await.is_empty());
}

/// A run made beside the owner is the owner's to drive, also when it comes to the home later.
#[tokio::test]
async fn the_owner_takes_in_runs_that_a_reader_makes() {
    let home = folder();
    let owner = owner_of(home.path()).await;
    let reader = EmbeddedState::open_reader(home.path()).expect("the home opens");
    let seen = inbox(&owner).await.last().map_or_else(Default::default, |(id, _)| *id);
    create(&reader, run_id("a")).await;
    let heard = tokio::time::timeout(PATIENCE, owner.inbox(&[(SHARD, seen)], PATIENCE, 10)).await;
    let heard = heard.expect("soon").expect("readable");
    assert!(matches!(&heard[0].1.event, InboxEvent::Created { run } if *run == run_id("a")));
    append(&owner, entry(run_id("a"), 2), vec![heard[0].1.id]).await.expect("it follows the reader's entry");
    drop(owner);
    create(&reader, run_id("b")).await;
    let owner = owner_of(home.path()).await;
    let inbox = inbox(&owner).await;
    assert!(matches!(&inbox[0].1, InboxEvent::Created { run } if *run == run_id("b")), "{inbox:?}");
    append(&owner, entry(run_id("b"), 2), vec![inbox[0].0]).await.expect("it follows the reader's entry");
}

#[tokio::test]
async fn a_reader_has_no_leases() {
    let home = folder();
    let error = EmbeddedState::open_reader(&home.path().join("none")).err().expect("there is none");
    check_open_error(
        &error,
        home.path(),
        expect![[r#"
            there is no home at `HOME/none`
            hint: a home is made by the first `gristmill run` in it
        "#]],
    );
    drop(owner_of(home.path()).await);
    let reader = EmbeddedState::open_reader(home.path()).expect("the home opens");
    let claim = Claim { shard: SHARD, worker: WorkerId(1), attempts: vec![] };
    let error = reader.claim(claim).await.expect_err("it has no leases");
    expect![[r#"failed to claim attempts: the store can't be reached: the home was opened beside its owner; only the process that owns it has its shards and leases"#]]
        .assert_eq(&chain(&error, home.path()));
}

/// Starts this test binary again for the test `name`, which then acts as a child on `home`.
fn child(name: &str, home: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this binary has a path"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD_HOME, home)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

fn child_home() -> Option<PathBuf> {
    std::env::var_os(CHILD_HOME).map(PathBuf::from)
}

#[tokio::test]
async fn a_killed_process_leaves_a_journal_without_gaps() {
    let run = run_id("a");
    if let Some(home) = child_home() {
        append_for_ever(&home, run).await;
    }
    let home = folder();
    let mut confirmed = 1;
    for round in 0..6u64 {
        let mut child = child("a_killed_process_leaves_a_journal_without_gaps", home.path());
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        // Killed at another place in each round: after so many confirmed appends, in the middle of one.
        let until = confirmed + 1 + 37 * round;
        for line in lines {
            if let Some(position) = line.expect("text").strip_prefix("appended ") {
                confirmed = position.parse().expect("a number");
                if confirmed >= until {
                    break;
                }
            }
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");

        let state = owner_of(home.path()).await;
        let journal = state.journal(run, 0, 1_000_000).await.expect("readable");
        let positions: Vec<u64> = journal.iter().map(|entry| entry.position).collect();
        assert_eq!(positions, (1..=journal.len() as u64).collect::<Vec<_>>());
        assert!(journal.len() as u64 >= confirmed, "a confirmed append is lost");
        assert!(journal[1..].iter().all(|read| read.body == entry(run, read.position).body));
        assert_eq!(state.open_runs(SHARD).await.expect("readable")[0].head, journal.len() as u64);
        confirmed = journal.len() as u64;
    }
}

/// Appends and says so until it is killed.
async fn append_for_ever(home: &Path, run: RunId) {
    let state = owner_of(home).await;
    create(&state, run).await;
    let head = state.run(run).await.expect("readable").expect("there").head;
    for position in head + 1.. {
        append(&state, entry(run, position), vec![]).await.expect("it fits");
        println!("appended {position}");
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_append_and_leaves_no_half() {
    let run = run_id("a");
    if let Some(home) = child_home() {
        return fill_the_disk(&home, run).await;
    }
    let home = folder();
    // A limit on the size of files is a full disk that any user can have. The signal that comes with it is ignored.
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this binary has a path"))
        .args(["a_full_disk_fails_the_append_and_leaves_no_half", "--exact", "--nocapture"])
        .env(CHILD_HOME, home.path())
        .output()
        .expect("the child ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (_, confirmed) = said.split_once("full after ").expect("the child says when");
    let confirmed: u64 = confirmed.lines().next().and_then(|line| line.parse().ok()).expect("a number");

    // With room on the disk again, all that was confirmed is there, and it goes on from there.
    let state = owner_of(home.path()).await;
    let journal = state.journal(run, 0, 1_000_000).await.expect("readable");
    assert_eq!(journal.iter().map(|entry| entry.position).collect::<Vec<_>>(), (1..=confirmed).collect::<Vec<_>>());
    append(&state, entry(run, confirmed + 1), vec![]).await.expect("it fits");
}

async fn fill_the_disk(home: &Path, run: RunId) {
    let state = owner_of(home).await;
    create(&state, run).await;
    let mut position = 1;
    let error = loop {
        let body = vec![7; 10_000];
        match append(&state, AppendEntry { body, ..entry(run, position + 1) }, vec![]).await {
            Ok(()) => position += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StateError::Unavailable { .. }), "{error:?}");
    // What failed is neither in the journal nor in memory: the same position is asked for again.
    let again = append(&state, AppendEntry { body: vec![7; 10_000], ..entry(run, position + 1) }, vec![]).await;
    assert!(matches!(again, Err(StateError::Unavailable { .. })), "{again:?}");
    assert_eq!(state.run(run).await.expect("readable").expect("there").head, position);
    println!("full after {position}");
}

#[test]
fn a_home_on_a_full_disk_says_so() {
    let home = folder();
    if let Some(_mounted) = Mounted::tmpfs(home.path(), "size=16k") {
        let error = open_error(&home.path().join("home"));
        check_open_error(
            &error,
            home.path(),
            expect![[r#"
            failed to make the tables of the database `HOME/home/state.db`: disk I/O error (SQLite's code 4874)
            hint: check that the disk isn't full and that the home can be written to
        "#]],
        );
    }
}

#[test]
fn a_home_that_cannot_be_written_to_says_so() {
    let place = folder();
    if let Some(_mounted) = Mounted::tmpfs(place.path(), "ro") {
        let error = open_error(&place.path().join("home"));
        check_open_error(
            &error,
            place.path(),
            expect![[r#"
                failed to make the folder `HOME/home`: Read-only file system (os error 30)
                hint: the home must be a folder that can be written to; use another home
            "#]],
        );
    }
    let file = folder();
    std::fs::write(file.path().join("file"), b"").expect("written");
    check_open_error(
        &open_error(&file.path().join("file")),
        file.path(),
        expect![[r#"
            failed to make the folder `HOME/file`: File exists (os error 17)
            hint: a part of that path is a file; use another home
        "#]],
    );
    check_open_error(
        &open_error(&file.path().join("file/home")),
        file.path(),
        expect![[r#"
            failed to make the folder `HOME/file/home`: Not a directory (os error 20)
            hint: a part of that path is a file; use another home
        "#]],
    );
}

#[test]
fn a_damaged_database_says_so() {
    let home = folder();
    std::fs::write(home.path().join("state.db"), "not a database, but long enough for one".repeat(100))
        .expect("written");
    check_open_error(
        &open_error(home.path()),
        home.path(),
        expect![[r#"
            the database `HOME/state.db` is damaged, or no database at all: file is not a database (SQLite's code 26)
            hint: move `HOME/state.db` (and the files beside it with the same start) away to begin anew; artifacts aren't lost with it
        "#]],
    );
}

#[tokio::test]
async fn a_damaged_page_is_an_error_of_the_verb_that_reads_it() {
    let home = folder();
    let run = run_id("a");
    let state = owner_of(home.path()).await;
    create(&state, run).await;
    for position in 2..200 {
        append(&state, entry(run, position), vec![]).await.expect("it fits");
    }
    drop(state);
    let path = home.path().join("state.db");
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 4096 * 4096 - 3 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&path, bytes).expect("written");
    match EmbeddedState::open(home.path(), Synchronous::Normal) {
        Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}"),
        Ok(state) => {
            let answer = state.journal(run, 0, 1_000).await;
            assert!(matches!(answer, Err(StateError::Damaged { .. })), "{answer:?}");
        }
    }
}

#[test]
fn databases_of_others_are_left_alone() {
    for (sql, expected) in [
        (
            "create table theirs (a integer)",
            expect![[r#"
                the database `HOME/state.db` belongs to another program
                hint: use another home
            "#]],
        ),
        (
            "create table ours (a integer); pragma application_id = 1196258164; pragma user_version = 99",
            expect![[r#"
                the database `HOME/state.db` has version 99; this program reads versions up to 1
                hint: update gristmill, or use another home
            "#]],
        ),
    ] {
        let home = folder();
        let path = home.path().join("state.db");
        rusqlite::Connection::open(&path).and_then(|database| database.execute_batch(sql)).expect("a database");
        let before = std::fs::read(&path).expect("readable");
        check_open_error(&open_error(home.path()), home.path(), expected);
        assert_eq!(std::fs::read(&path).expect("readable"), before);
    }
}

#[tokio::test]
async fn reports_end_with_the_process() {
    let home = folder();
    let run = run_id("a");
    let first = owner_of(home.path()).await;
    create(&first, run).await;
    let attempt = AttemptRef { run, task: TaskKey { index: 0, tag: 1 }, attempt: 1 };
    let report = Report { attempt, started_us: 0, slot_us: 0, outcome: Outcome::Stopped };
    first.finish(Finish { shard: SHARD, worker: WorkerId(1), reports: vec![report] }).await.expect("answered");
    assert_eq!(inbox(&first).await.len(), 2);
    drop(first);
    assert!(inbox(&owner_of(home.path()).await).await.is_empty());
}

/// A file system of its own, where the user may have one.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, options: &str) -> Option<Mounted> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output().ok()?;
        if mount.status.success() {
            Some(Mounted(at.to_owned()))
        } else {
            eprintln!("skipped: no file system can be mounted here");
            None
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the file system is let go");
    }
}
