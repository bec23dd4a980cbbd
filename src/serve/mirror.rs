//! A home that can't be written in, as hosts of containers give models (`/opt/ml/model`): its state is copied aside, its
//! artifacts are read where they are.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

/// The files of a home's state: SQLite's database and its log.
const STATE: [&str; 2] = ["state.db", "state.db-wal"];
/// Folders of its artifacts that are only read.
const READ: [&str; 2] = ["sha256", "marks"];

/// A folder to serve from in place of a home that can't be written in; nothing for one that can. What is written there,
/// which is what servers tell each other, ends with it.
pub fn mirror(home: &Path) -> anyhow::Result<Option<TempDir>> {
    if !home.exists() || can_write(home)? {
        return Ok(None);
    }
    let folder = tempfile::tempdir().context("failed to make a temporary folder for the state of a read-only home")?;
    fill(home, folder.path())?;
    Ok(Some(folder))
}

fn can_write(home: &Path) -> anyhow::Result<bool> {
    match tempfile::tempfile_in(home) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("failed to write in the home `{}`", home.display())),
    }
}

fn fill(home: &Path, folder: &Path) -> anyhow::Result<()> {
    for name in STATE {
        let (from, to) = (home.join(name), folder.join(name));
        match fs::copy(&from, &to) {
            Ok(_) => make_writable(&to)?,
            // A home that was closed in order has no log.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to copy `{}`", from.display())),
        }
    }
    let home = home.canonicalize().with_context(|| format!("failed to find `{}`", home.display()))?;
    let artifacts = folder.join("artifacts");
    fs::create_dir(&artifacts).with_context(|| format!("failed to make `{}`", artifacts.display()))?;
    for name in READ {
        let (from, to) = (home.join("artifacts").join(name), artifacts.join(name));
        if from.exists() {
            std::os::unix::fs::symlink(&from, &to).with_context(|| format!("failed to link `{}`", from.display()))?;
        }
    }
    Ok(())
}

/// A copy has its original's rights, which may be to read alone.
fn make_writable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = || format!("failed to make `{}` writable", path.display());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_that_can_be_written_in_is_served_as_it_is() {
        let home = tempfile::tempdir().expect("a folder");
        assert!(mirror(home.path()).expect("it is there").is_none());
        assert!(mirror(&home.path().join("none")).expect("that is told later").is_none());
    }

    #[test]
    fn a_mirror_has_the_state_as_a_copy_and_the_artifacts_as_they_are() {
        let (home, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        fs::write(home.path().join("state.db"), "rows").expect("the state");
        fs::create_dir_all(home.path().join("artifacts/sha256")).expect("artifacts");
        fs::write(home.path().join("artifacts/sha256/a"), "bytes").expect("an artifact");
        fill(home.path(), folder.path()).expect("it is filled");
        fs::write(folder.path().join("state.db"), "more").expect("the copy is our own");
        assert_eq!(fs::read_to_string(home.path().join("state.db")).expect("the state"), "rows");
        assert_eq!(fs::read_to_string(folder.path().join("artifacts/sha256/a")).expect("an artifact"), "bytes");
    }
}
