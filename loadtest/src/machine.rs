//! The machine and the programs of a test, as far as the system tells.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::process::Command;

use crate::outcome::Machine;
use crate::servers::Servers;

/// This machine, by what Linux says under `/proc`; what it doesn't say is empty.
pub fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_default();
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let release = read("/proc/sys/kernel/osrelease");
    let name = field_with(&read("/etc/os-release"), "PRETTY_NAME", '=').unwrap_or_default();
    let os = format!("{} Linux {}", name.trim_matches('"'), release.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    Machine { cores, memory_bytes: kib * 1_024, cpu, os: os.trim().to_owned() }
}

fn field(text: &str, name: &str) -> Option<String> {
    field_with(text, name, ':')
}

fn field_with(text: &str, name: &str, between: char) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(between));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The versions of the program and of the servers that it ran on.
pub async fn versions(binary: &Path, servers: Option<&Servers>) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let told = Command::new(binary).arg("--version").output().await;
    if let Some(version) = told.ok().and_then(|output| String::from_utf8(output.stdout).ok()) {
        let version = version.split_whitespace().last().unwrap_or_default().to_owned();
        versions.insert("gristmill".to_owned(), version);
    }
    let Some(servers) = servers else { return versions };
    if let Ok(version) = servers.rabbitmqctl(&["version"]).await {
        versions.insert("rabbitmq".to_owned(), version.trim().to_owned());
    }
    if let Ok(info) = servers.redis_info().await
        && let Some(version) = field(&info, "redis_version")
    {
        versions.insert("redis".to_owned(), version);
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_cores_and_memory() {
        let machine = machine();
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20 && machine.os.contains("Linux"), "{machine:?}");
    }
}
