//! Lists the dashboard's files, so that all of them are part of the program and none has to be named twice.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("dashboard");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut code =
        String::from("/// Path, entity tag and bytes of each file.\nconst FILES: &[(&str, &str, &[u8])] = &[\n");
    for file in &files {
        let mut hasher = DefaultHasher::new();
        std::fs::read(file)?.hash(&mut hasher);
        let name = file.strip_prefix(&root)?.to_string_lossy().replace('\\', "/");
        let tag = format!("\"{:016x}\"", hasher.finish());
        writeln!(code, "    ({name:?}, {tag:?}, include_bytes!({:?})),", file.display().to_string())?;
    }
    code.push_str("];\n");
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("dashboard_files.rs"), code)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
