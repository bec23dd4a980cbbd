//! Marks in a folder: an empty file each.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{failed, make_folders, sync_folder};
use crate::artifacts::ArtifactError;

/// Makes the file and the folders above it, and syncs all of them up to `root`.
pub(super) fn set(root: &Path, name: &str) -> Result<(), ArtifactError> {
    let path = root.join(name);
    let mut above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    if !path.exists() {
        make_folders(path.parent().unwrap_or(root))?;
        match File::create_new(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("mark the", &path)(error)),
        }
    }
    // Another process may have made it and not have synced the folders yet, so that is done in any case.
    above.try_for_each(sync_folder)
}

/// Marks in the order of their names.
pub(super) fn list(root: &Path, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
    let mut found = Vec::new();
    walk(root, "", &Wanted { prefix, after, limit }, &mut found)?;
    Ok(found)
}

struct Wanted<'a> {
    prefix: &'a str,
    after: &'a str,
    limit: usize,
}

impl Wanted<'_> {
    /// Whether a folder, by its name with a slash, can have marks that are asked for.
    fn enters(&self, folder: &str) -> bool {
        let on_the_way = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        on_the_way && (folder > self.after || self.after.starts_with(folder))
    }
}

fn walk(folder: &Path, above: &str, wanted: &Wanted<'_>, found: &mut Vec<String>) -> Result<(), ArtifactError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list the folder of an", folder))? {
        let entry = entry.map_err(failed("list the folder of an", folder))?;
        let kind = entry.file_type().map_err(failed("list the folder of an", &entry.path()))?;
        // What isn't text was put there by people.
        let Ok(name) = entry.file_name().into_string() else { continue };
        // With its slash a folder sorts among files as its marks do.
        names.push(if kind.is_dir() { format!("{above}{name}/") } else { format!("{above}{name}") });
    }
    names.sort_unstable();
    for name in names {
        if found.len() >= wanted.limit {
            break;
        }
        if name.ends_with('/') {
            if wanted.enters(&name) {
                let inside = folder.join(&name[above.len()..name.len() - 1]);
                walk(&inside, &name, wanted, found)?;
            }
        } else if name.starts_with(wanted.prefix) && name.as_str() > wanted.after {
            found.push(name);
        }
    }
    Ok(())
}
