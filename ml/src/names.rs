//! Names that people mistype, and the one they most likely meant.

/// The candidate closest to `name`, when it is close enough to be what was meant.
///
/// Upper and lower case count as equal. A third of the letters may differ: more would offer names that
/// have nothing to do with it.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let close = |distance: usize, candidate: &str| {
        let letters = name.chars().count().max(candidate.chars().count());
        distance <= letters.div_ceil(3) && distance * 2 <= letters
    };
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| close(*distance, candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint for an unknown name: the nearest one, or else what there is (the first twenty).
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    if candidates.is_empty() {
        return None;
    }
    let shown: Vec<String> = candidates.iter().take(20).map(|name| format!("`{name}`")).collect();
    let more = if candidates.len() > 20 { format!(" and {} more", candidates.len() - 20) } else { String::new() };
    Some(format!("there are {}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_finds_none() {
        let columns = ["dep_delay", "arr_delay", "carrier"];
        assert_eq!(nearest("dep_dealy", columns), Some("dep_delay"));
        assert_eq!(nearest("Carrier", columns), Some("carrier"));
        assert_eq!(nearest("humidity", columns), None);
        assert_eq!(hint("humidity", columns).as_deref(), Some("there are `dep_delay`, `arr_delay`, `carrier`"));
    }
}
