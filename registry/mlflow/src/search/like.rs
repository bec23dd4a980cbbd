//! SQL's `LIKE`: `%` is any text, `_` any one character.

/// Whether a text fits a pattern.
pub(super) fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where to go on when what follows the last `%` doesn't fit here: one character further.
    let mut again: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(of) {
            Some('%') => {
                again = Some((at, of + 1));
                of += 1;
            }
            Some(c) if *c == '_' || *c == text[at] => {
                at += 1;
                of += 1;
            }
            _ => match again {
                Some((from, after)) => {
                    again = Some((from + 1, after));
                    at = from + 1;
                    of = after;
                }
                None => return false,
            },
        }
    }
    pattern[of..].iter().all(|c| *c == '%')
}

/// The same whatever the case.
pub(super) fn ilike(text: &str, pattern: &str) -> bool {
    like(&text.to_lowercase(), &pattern.to_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (text, pattern, fits) in [
            ("abc", "abc", true),
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "_b_", true),
            ("abc", "%", true),
            ("", "%", true),
            ("", "_", false),
            ("abc", "ab", false),
            ("aXbXc", "a%X_", true),
            ("abc", "A%", false),
            ("a.c", "a_c", true),
            ("ä", "_", true),
        ] {
            assert_eq!(like(text, pattern), fits, "{text} like {pattern}");
        }
        assert!(ilike("ABC", "a%C"));
    }

    /// The definition, without a thought of speed.
    fn plain(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skip| plain(&text[skip..], rest)),
            Some((c, rest)) => text.split_first().is_some_and(|(d, more)| (*c == '_' || c == d) && plain(more, rest)),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(text in "[ab]{0,8}", pattern in "[ab%_]{0,6}") {
            let (chars, of): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
            prop_assert_eq!(like(&text, &pattern), plain(&chars, &of));
        }
    }
}
