//! What a name may look like, and which known name a wrong one was meant to be.
//!
//! Names of steps, parameters, models, aliases, pools and limits share one rule, so that each fits a DNS
//! label, a metric's label and a key of the store. Names of columns are the data's and are not bound by it.

use crate::limits::{NAME_CHARS_MAX, STEPS_MAX};

/// The rule as a regular expression, for the JSON Schema. [`is_name`] says the same.
pub const NAME_PATTERN: &str = "^[a-z][a-z0-9_-]{0,62}$";

/// The rule as a sentence.
pub const NAME_RULE: &str =
    "lower-case letters, digits, `-` and `_`, starting with a letter, 63 characters at the most";

/// Whether `text` is a valid name.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_CHARS_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

/// The nearest valid name to `text`, when there is an obvious one: `Late Flights` becomes `late-flights`.
pub fn as_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for character in text.chars() {
        match character.to_ascii_lowercase() {
            plain @ ('a'..='z' | '0'..='9' | '_' | '-') => name.push(plain),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name: String =
        name.trim_start_matches(|first: char| !first.is_ascii_lowercase()).chars().take(NAME_CHARS_MAX).collect();
    let name = name.trim_end_matches('-').to_owned();
    is_name(&name).then_some(name)
}

/// The candidate that `wrong` was most likely meant to be; none when no candidate is near.
///
/// Near is an edit distance (with transpositions) of a third of the length, a Jaro-Winkler similarity of
/// 0.9, which also finds names cut short, or being one word of it (`auc` of `roc_auc`). Of equally near ones
/// the first wins. No more candidates are looked at than a pipeline may have steps.
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no mistyped names, and the distance takes quadratic time.
    if wrong.is_empty() || wrong.len() > 2 * NAME_CHARS_MAX {
        return None;
    }
    let folded = wrong.to_lowercase();
    // One letter of two is no likeness.
    let distance_max = match wrong.chars().count() {
        0..=2 => 0,
        length => (length / 3).max(1),
    };
    let mut best: Option<(usize, &str)> = None;
    let candidates = candidates.into_iter().take(STEPS_MAX);
    for candidate in candidates.filter(|candidate| candidate.len() <= 2 * NAME_CHARS_MAX) {
        let is_word_of = folded.len() >= 3 && candidate.split(['_', '-', '.']).any(|word| word == folded);
        let distance = match is_word_of {
            true => 1,
            // The distance is at least the difference in length, and takes long to work out.
            false if folded.len().abs_diff(candidate.len()) > 4 * distance_max => usize::MAX,
            false => strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()),
        };
        let is_near = is_word_of || distance <= distance_max || strsim::jaro_winkler(&folded, candidate) >= 0.9;
        if is_near && best.is_none_or(|(smallest, _)| distance < smallest) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The hint that names the nearest candidate or, when none is near, all of them if they are few.
pub fn suggest<'a>(wrong: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(name) = nearest(wrong, candidates.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    match candidates.len() {
        0 => None,
        1..=24 => Some(format!("{what}: {}", in_backticks(candidates))),
        _ => None,
    }
}

/// `a`, `b`, `c`: names for a sentence.
pub fn in_backticks<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "clean", "model-2", "x_y", &"a".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "A", "2a", "-a", "a.b", "a b", "é", "a\n", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_wrong_name_finds_the_one_that_was_meant() {
        let known = ["algorithm", "features", "target", "task"];
        assert_eq!(nearest("algoritm", known), Some("algorithm"));
        assert_eq!(nearest("Features", known), Some("features"));
        assert_eq!(nearest("traget", known), Some("target"));
        assert_eq!(nearest("feat", known), Some("features"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("auc", ["rmse", "roc_auc", "pr_auc"]), Some("roc_auc"));
        assert_eq!(nearest("a", ["b", "c"]), None);
    }

    #[test]
    fn a_text_becomes_a_name_where_one_is_obvious() {
        assert_eq!(as_name("Late Flights (2013)").as_deref(), Some("late-flights-2013"));
        assert_eq!(as_name("2013 flights").as_deref(), Some("flights"));
        assert_eq!(as_name("日本"), None);
    }
}
