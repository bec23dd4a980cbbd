//! What is wrong with a pipeline file, where, and what to do about it.
//!
//! A complaint carries the offending line, so that it can be shown where the file isn't at hand: in the
//! API's answer, in a log. Rendering has no color; the text makes sense without.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::COMPLAINTS_MAX;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The pipeline can't run.
    Error,
    /// It can run, and probably doesn't do what was meant.
    Warning,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Error => "error",
            Level::Warning => "warning",
        })
    }
}

/// One complaint about one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    pub severity: Level,
    /// The file as the caller named it, or the option of the command line.
    pub file: String,
    /// Line, from 1; 0 where the place is no file (`--set trees=x`).
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters that are meant, within the line; at least 1.
    pub length: u32,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The offending line, or the part of it around the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// A line to show under a complaint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    pub text: String,
    /// Characters of the text before the place.
    pub before: u32,
}

impl Excerpt {
    /// The line around one of its bytes. It is cut here and not when it is shown: a file can be one line,
    /// and every complaint about it keeps its own.
    pub fn new(line: &str, at: usize) -> Excerpt {
        // Control characters could move the cursor of the terminal that shows them.
        let clean = |character: char| if character.is_control() && character != '\t' { '\u{fffd}' } else { character };
        let at = line.floor_char_boundary(at.min(line.len()));
        let back = |count: usize| line[..at].char_indices().rev().nth(count - 1).map_or(0, |(byte, _)| byte);
        let is_short = line.chars().take(EXCERPT_CHARS_MAX + 1).count() <= EXCERPT_CHARS_MAX;
        // A place near the start is shown with all that stands before it.
        let start = match back(EXCERPT_CHARS_MAX - EXCERPT_CHARS_AFTER) {
            _ if is_short => 0,
            0 => 0,
            _ => back(EXCERPT_CHARS_BEFORE),
        };
        let mut text = String::new();
        if start > 0 {
            text.push('…');
        }
        let mut characters = line[start..].chars();
        text.extend(characters.by_ref().take(EXCERPT_CHARS_MAX).map(clean));
        if characters.next().is_some() {
            text.push('…');
        }
        let before = line[start..at].chars().count() + usize::from(start > 0);
        Excerpt { text, before: u32::try_from(before).unwrap_or(0) }
    }
}

impl Complaint {
    /// An error about something that has no place in a file.
    pub fn elsewhere(place: impl Into<String>, message: impl Into<String>) -> Complaint {
        Complaint {
            severity: Level::Error,
            file: place.into(),
            line: 0,
            column: 0,
            length: 1,
            message: message.into(),
            hint: None,
            excerpt: None,
        }
    }

    /// The same complaint with the next step to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Complaint {
        self.hint = Some(hint.into());
        self
    }

    /// The same complaint with a hint, where there is one.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Complaint {
        self.hint = hint;
        self
    }

    /// The same complaint as a warning.
    #[must_use]
    pub fn warning(mut self) -> Complaint {
        self.severity = Level::Warning;
        self
    }

    fn order(&self) -> (u32, u32, Level, &str) {
        (self.line, self.column, self.severity, &self.message)
    }
}

/// Characters of a line that are shown; of a longer one only the part around the place.
const EXCERPT_CHARS_MAX: usize = 120;
/// Characters before the place that stay visible in a line that is cut.
const EXCERPT_CHARS_BEFORE: usize = 60;
/// Characters after it that should.
const EXCERPT_CHARS_AFTER: usize = 30;
/// Complaints after which no more nearest names are looked for: looking takes time, and only
/// [`COMPLAINTS_MAX`] are shown.
const HINTS_MAX: usize = 2 * COMPLAINTS_MAX;

/// Whether a hint for one more complaint is worth looking for.
pub(super) fn wants_hint(complaints: &[Complaint]) -> bool {
    complaints.len() < HINTS_MAX
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.severity, self.message)?;
        if self.line == 0 {
            writeln!(f, "  --> {}", self.file)?;
        } else {
            writeln!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
        }
        let number = self.line.to_string();
        let margin = " ".repeat(if self.line == 0 { 2 } else { number.len() });
        if let Some(excerpt) = &self.excerpt {
            let (shown, before) = (&excerpt.text, excerpt.before as usize);
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {shown}")?;
            // Tabs are repeated, so that the marks stand under what they mean however wide a tab is.
            let pad: String =
                shown.chars().take(before).map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
            let room = shown.chars().count().saturating_sub(before).max(1);
            let marks = "^".repeat((self.length as usize).clamp(1, room));
            writeln!(f, "{margin} | {pad}{marks}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "{margin} = hint: {hint}")?;
        }
        Ok(())
    }
}

/// All complaints about one file, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaints {
    pub complaints: Vec<Complaint>,
    /// How many more there are than [`COMPLAINTS_MAX`].
    #[serde(default)]
    pub omitted: usize,
}

impl Complaints {
    /// Sorts by position, drops repetitions and keeps [`COMPLAINTS_MAX`], errors before warnings.
    pub fn new(mut complaints: Vec<Complaint>) -> Complaints {
        complaints.sort_by(|a, b| a.order().cmp(&b.order()));
        complaints.dedup();
        let total = complaints.len();
        if total > COMPLAINTS_MAX {
            complaints.sort_by_key(|complaint| complaint.severity);
            complaints.truncate(COMPLAINTS_MAX);
            complaints.sort_by(|a, b| a.order().cmp(&b.order()));
        }
        Complaints { omitted: total - complaints.len(), complaints }
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.complaints.iter().any(|complaint| complaint.severity == Level::Error)
    }

    pub fn is_empty(&self) -> bool {
        self.complaints.is_empty()
    }

    pub fn len(&self) -> usize {
        self.complaints.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Complaint> {
        self.complaints.iter()
    }
}

impl From<Complaint> for Complaints {
    fn from(complaint: Complaint) -> Complaints {
        Complaints { complaints: vec![complaint], omitted: 0 }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.complaints.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{complaint}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "\n... and {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Complaints {}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn at(line: u32, column: u32, length: u32, excerpt: &str) -> Complaint {
        Complaint {
            line,
            column,
            length,
            excerpt: Some(Excerpt::new(excerpt, column as usize - 1)),
            ..Complaint::elsewhere("pipeline.yaml", "unknown key `algoritm` in step `model`")
        }
    }

    #[test]
    fn a_complaint_shows_the_line_and_the_next_step() {
        let complaint =
            at(23, 7, 8, "      algoritm: { random_forest: { trees: 100 } }").hint("did you mean `algorithm`?");
        expect![[r#"
            error: unknown key `algoritm` in step `model`
              --> pipeline.yaml:23:7
               |
            23 |       algoritm: { random_forest: { trees: 100 } }
               |       ^^^^^^^^
               = hint: did you mean `algorithm`?
        "#]]
        .assert_eq(&complaint.to_string());
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}bad{}", "x".repeat(300), "y".repeat(300));
        expect![[r#"
            error: unknown key `algoritm` in step `model`
              --> pipeline.yaml:1:301
              |
            1 | …xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxbadyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
              |                                                              ^^^
        "#]]
        .assert_eq(&at(1, 301, 3, &line).to_string());
    }

    #[test]
    fn a_place_outside_the_file_has_no_line() {
        let complaint =
            Complaint::elsewhere("--set trees=x", "parameter `trees` is a number").hint("write `trees=100`");
        expect![[r#"
            error: parameter `trees` is a number
              --> --set trees=x
               = hint: write `trees=100`
        "#]]
        .assert_eq(&complaint.to_string());
    }

    #[test]
    fn complaints_come_by_position_and_errors_outlive_warnings() {
        let mut complaints: Vec<Complaint> = (0..200).map(|line| at(200 - line, 1, 1, "x").warning()).collect();
        complaints.push(at(500, 1, 1, "x"));
        let complaints = Complaints::new(complaints);
        assert_eq!((complaints.len(), complaints.omitted), (COMPLAINTS_MAX, 101));
        assert!(complaints.iter().is_sorted_by_key(|complaint| complaint.line));
        assert!(complaints.has_errors());
    }
}
