//! Who of several starts and lets go how many.
//!
//! Each machine with a pool of the same name decides by itself. All see about the same and divide by the same rule, so
//! that together they make up what is lacking once.

/// What of `total` is the part of the one `at` this place: even parts, the first ones one more where it doesn't come out
/// even; nobody gets more than there is room for in its place, and what somebody has no room for goes to the others.
///
/// ```
/// use gristmill_pools::policy::share;
///
/// assert_eq!([0, 1, 2].map(|at| share(7, &[9, 9, 9], at)), [3, 2, 2]);
/// assert_eq!([0, 1, 2].map(|at| share(7, &[1, 0, 9], at)), [1, 0, 6]);
/// ```
pub fn share(total: u32, rooms: &[u32], at: usize) -> u32 {
    let mut given = vec![0_u32; rooms.len()];
    let mut left = total;
    loop {
        let open: Vec<usize> = (0..rooms.len()).filter(|place| given[*place] < rooms[*place]).collect();
        if left == 0 || open.is_empty() {
            return given.get(at).copied().unwrap_or(0);
        }
        let each = left / open.len() as u32;
        for place in open {
            let more = each.max(1).min(rooms[place] - given[place]).min(left);
            given[place] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn all_is_given_once_as_evenly_as_there_is_room(
            total in 0_u32..10_000, rooms in proptest::collection::vec(0_u32..2_000, 0..6),
        ) {
            let given: Vec<u32> = (0..rooms.len()).map(|at| share(total, &rooms, at)).collect();
            proptest::prop_assert_eq!(given.iter().sum::<u32>(), total.min(rooms.iter().sum()));
            for (place, one) in given.iter().enumerate() {
                proptest::prop_assert!(*one <= rooms[place]);
                let most = given.iter().max().copied().unwrap_or(0);
                proptest::prop_assert!(*one == rooms[place] || most <= one + 1, "{:?} of {:?}", given, rooms);
            }
        }
    }
}
