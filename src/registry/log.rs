//! `registry log`: a model's facts as they stand in its log, which is its audit.

use gristmill_protocol::Timestamp;
use gristmill_registry::{Change, LogEntry, Record};
use serde_json::{Value, json};

use super::print_json;
use crate::home::Home;
use crate::problem::Exit;
use crate::settings::Settings;
use crate::text::{self, Table};

/// `gristmill registry log`.
pub async fn log(settings: &Settings, name: &str, after: u64, limit: u32, json: bool) -> anyhow::Result<Exit> {
    let home = Home::read(settings).await?;
    let facts = home.registry.facts(name, after, limit as usize).await?;
    if json {
        print_json(&facts.iter().map(|(number, entry)| entry_json(*number, entry)).collect());
        return Ok(Exit::Success);
    }
    print!("{}", table(&facts));
    if facts.len() == limit as usize
        && let Some((last, _)) = facts.last()
    {
        println!("\nnext: `gristmill registry log {name} --after {last}`");
    }
    Ok(Exit::Success)
}

fn table(facts: &[(u64, LogEntry)]) -> String {
    let mut table = Table::new(&[">fact", "when", "who", "what", "why"]);
    for (number, entry) in facts {
        let told = told(entry);
        let mut lines = told.changes.iter();
        let first = lines.next().cloned().unwrap_or_default();
        table.row([number.to_string(), text::moment(told.at), told.by, first, told.why]);
        for line in lines {
            table.row([String::new(), String::new(), String::new(), line.clone(), String::new()]);
        }
    }
    table.to_string()
}

/// An entry in words.
struct Told {
    at: Timestamp,
    by: String,
    why: String,
    changes: Vec<String>,
}

fn told(entry: &LogEntry) -> Told {
    match entry {
        LogEntry::VersionCreated { at, by, version, new } => {
            let changes = vec![format!("version {version} registered: {}", new.model.short())];
            Told { at: *at, by: by.clone(), why: String::new(), changes }
        }
        LogEntry::AliasMoved(moved) => {
            let from = from(moved.from);
            let changes = vec![format!("alias {} {from} → {}", moved.alias, moved.to)];
            Told { at: moved.at, by: moved.by.clone(), why: moved.why.clone(), changes }
        }
        LogEntry::Recorded(Record { at, by, why, changes, .. }) => {
            let changes = changes.iter().map(change_text).collect();
            Told { at: *at, by: by.clone(), why: why.clone().unwrap_or_default(), changes }
        }
    }
}

fn from(version: Option<u64>) -> String {
    version.map_or_else(|| "new".to_owned(), |version| version.to_string())
}

fn change_text(change: &Change) -> String {
    let of = |version: &Option<u64>| version.map_or_else(|| "the model".to_owned(), |v| format!("version {v}"));
    match change {
        Change::ModelCreated => "model created".to_owned(),
        Change::VersionRegistered { version, new, .. } => {
            format!("version {version} registered: {} ({})", new.model.short(), new.algorithm)
        }
        Change::Staged { version, before, after } => {
            format!("stage of version {version} {before:?} → {after:?}").to_lowercase()
        }
        Change::VersionSigned { version, signature } => format!("version {version} signed by {}", signature.key),
        Change::AliasSet { alias, before, after } => format!("alias {alias} {} → {after}", from(*before)),
        Change::AliasRemoved { alias, before } => format!("alias {alias} {before} → removed"),
        Change::Promoted { alias, before, after, evidence } => {
            let under = evidence.map(|digest| format!(", evidence {}", digest.short())).unwrap_or_default();
            format!("promoted {alias} {} → {after}{under}", from(*before))
        }
        Change::RolledBack { alias, before, after } => format!("rolled back {alias} {before} → {after}"),
        Change::Tagged { version, tag, before, after } => match (before, after) {
            (_, Some(after)) => format!("tag {tag}={after} of {}", of(version)),
            (_, None) => format!("tag {tag} of {} removed", of(version)),
        },
        Change::Described { version, .. } => format!("{} described", of(version)),
        Change::VersionDeleted { version, retained_until } => {
            format!("version {version} deleted; artifacts stay until {}", text::moment(*retained_until))
        }
        Change::VersionPurged { version, artifacts } => {
            format!("version {version} purged: {}", text::counted(artifacts.len() as u64, "artifact"))
        }
        Change::ModelDeleted { retained_until } => {
            format!("model deleted; artifacts stay until {}", text::moment(*retained_until))
        }
        Change::RenamedTo { name, .. } => format!("renamed to {name}"),
        Change::ClaimedFor { name } => format!("name taken for {name}"),
        Change::Erased { subject, artifacts } => {
            format!("{} erased for {subject}", text::counted(artifacts.len() as u64, "artifact"))
        }
        Change::Scored { of, output, rows, .. } => {
            format!("{}@{} scored {}: {}", of.name, of.version, text::counted(*rows, "row"), output.short())
        }
    }
}

fn entry_json(number: u64, entry: &LogEntry) -> Value {
    let said = told(entry);
    let mut value = json!({ "fact": number, "at_ms": said.at.0, "by": said.by, "why": said.why });
    if let LogEntry::Recorded(record) = entry {
        value["trace"] = json!(record.trace.map(|run| run.to_string()));
        value["previous"] = json!(record.previous.to_string());
        value["key"] = json!(record.key.as_ref().map(|key| &key.text));
        value["changes"] = json!(record.changes);
    } else {
        value["changes"] = json!(said.changes);
    }
    value
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use gristmill_protocol::Digest;

    use super::*;

    #[test]
    fn facts_read_as_sentences() {
        let record = |number: u64, changes: Vec<Change>| {
            let entry = Record {
                number,
                log: "model/delays".to_owned(),
                previous: Digest::of(b""),
                at: Timestamp(1_735_787_045_000 + number * 60_000),
                by: "ann".to_owned(),
                why: (number == 1).then(|| "better on the holidays".to_owned()),
                trace: None,
                key: None,
                changes,
            };
            (number, LogEntry::Recorded(entry))
        };
        let champion = || "champion".to_owned();
        let facts = [
            record(
                1,
                vec![Change::Promoted {
                    alias: champion(),
                    before: Some(1),
                    after: 2,
                    evidence: Some(Digest::of(b"evidence")),
                }],
            ),
            record(
                2,
                vec![
                    Change::RolledBack { alias: champion(), before: 2, after: 1 },
                    Change::Tagged {
                        version: Some(2),
                        tag: "bad".to_owned(),
                        before: None,
                        after: Some("yes".to_owned()),
                    },
                ],
            ),
        ];
        expect![[r#"
            fact  when                     who  what                                            why
               1  2025-01-02 03:05:05 UTC  ann  promoted champion 1 → 2, evidence ee8250fb76e0  better on the holidays
               2  2025-01-02 03:06:05 UTC  ann  rolled back champion 2 → 1
                                                tag bad=yes of version 2
        "#]]
        .assert_eq(&table(&facts));
    }
}
