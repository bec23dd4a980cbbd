//! Attributions of trees: TreeSHAP (Lundberg, Erion and Lee 2018, "Consistent Individualized Feature
//! Attribution for Tree Ensembles", algorithm 2), path-dependent.
//!
//! A feature's share is its Shapley value in the game where the value of a set of features is what the tree
//! predicts knowing only those: at a split on another feature both ways are taken, weighted by the training
//! rows that went there. Of an ensemble the shares add up, as predictions do. Time per tree: leaves × depth².

/// A split of a tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub feature: usize,
    pub threshold: f64,
    pub left: usize,
    pub right: usize,
    /// Where missing values go.
    pub missing_right: bool,
}

/// A tree as attributions see it. Node 0 is the root; a walk down must end.
pub trait TreeView {
    /// The split at a node; none at a leaf.
    fn split(&self, node: usize) -> Option<Split>;

    /// What a leaf predicts.
    fn value(&self, leaf: usize) -> f64;

    /// Training rows, or their weight, that came through a node.
    fn cover(&self, node: usize) -> f64;

    /// Which way a value goes.
    fn goes_left(&self, split: &Split, value: f64) -> bool {
        value <= split.threshold || (value.is_nan() && !split.missing_right)
    }
}

/// The mean prediction over the training rows: what is predicted knowing nothing of a row.
pub fn expectation<T: TreeView>(tree: &T) -> f64 {
    fn below<T: TreeView>(tree: &T, node: usize) -> f64 {
        let Some(split) = tree.split(node) else { return tree.value(node) };
        let (left, right) = shares(tree, &split);
        left * below(tree, split.left) + right * below(tree, split.right)
    }
    below(tree, 0)
}

/// Adds to `shares`, one a column, how far each feature of `row` moves the tree's prediction from its
/// [`expectation`], times `scale` (of a forest one over its trees; of boosting the learning rate, where leaves
/// don't have it yet). Panics when the tree reads a column that the row or `shares` doesn't have.
pub fn attribute<T: TreeView, V: Copy + Into<f64>>(tree: &T, row: &[V], scale: f64, shares: &mut [f64]) {
    Walk { tree, row, scale, shares }.descend(0, &[], Step { feature: None, zero: 1.0, one: 1.0, weight: 1.0 });
}

/// The shares of a split's cover that went left and right; half each where no row came.
fn shares<T: TreeView>(tree: &T, split: &Split) -> (f64, f64) {
    let (left, right) = (tree.cover(split.left), tree.cover(split.right));
    let whole = left + right;
    if whole > 0.0 { (left / whole, right / whole) } else { (0.5, 0.5) }
}

/// A feature on the way to a node.
#[derive(Clone, Copy)]
struct Step {
    /// None for the root's.
    feature: Option<usize>,
    /// Share of the training rows that go this way when the feature isn't known.
    zero: f64,
    /// 1 when the row itself goes this way, else 0.
    one: f64,
    /// The part of all feature sets of this size, weighted as Shapley does.
    weight: f64,
}

struct Walk<'a, T, V> {
    tree: &'a T,
    row: &'a [V],
    scale: f64,
    shares: &'a mut [f64],
}

impl<T: TreeView, V: Copy + Into<f64>> Walk<'_, T, V> {
    fn descend(&mut self, node: usize, above: &[Step], step: Step) {
        // No set of features leads here: neither the row nor any training row.
        if step.zero == 0.0 && step.one == 0.0 {
            return;
        }
        let mut path = extended(above, step);
        let Some(split) = self.tree.split(node) else {
            let value = self.tree.value(node) * self.scale;
            for at in 1..path.len() {
                let Some(feature) = path[at].feature else { continue };
                self.shares[feature] += unwound_weight(&path, at) * (path[at].one - path[at].zero) * value;
            }
            return;
        };
        let (left, right) = shares(self.tree, &split);
        let goes_left = self.tree.goes_left(&split, self.row[split.feature].into());
        // A feature that was split on before takes its old place.
        let (mut zero, mut one) = (1.0, 1.0);
        if let Some(at) = path.iter().position(|step| step.feature == Some(split.feature)) {
            (zero, one) = (path[at].zero, path[at].one);
            unwind(&mut path, at);
        }
        for (child, share, taken) in [(split.left, left, goes_left), (split.right, right, !goes_left)] {
            let one = if taken { one } else { 0.0 };
            self.descend(child, &path, Step { feature: Some(split.feature), zero: zero * share, one, weight: 0.0 });
        }
    }
}

/// `EXTEND` of the paper.
fn extended(above: &[Step], step: Step) -> Vec<Step> {
    let length = above.len();
    let mut path = Vec::with_capacity(length + 1);
    path.extend_from_slice(above);
    path.push(Step { weight: if length == 0 { 1.0 } else { 0.0 }, ..step });
    for at in (0..length).rev() {
        path[at + 1].weight += step.one * path[at].weight * (at + 1) as f64 / (length + 1) as f64;
        path[at].weight = step.zero * path[at].weight * (length - at) as f64 / (length + 1) as f64;
    }
    path
}

/// `UNWIND` of the paper: undoes the extension by the step at `from`.
fn unwind(path: &mut Vec<Step>, from: usize) {
    let Step { zero, one, .. } = path[from];
    let length = path.len();
    let mut next = path[length - 1].weight;
    for at in (0..length - 1).rev() {
        (path[at].weight, next) = without(path[at].weight, next, at, length, zero, one);
    }
    // The features after it move up; the weights stay in their places.
    for at in from..length - 1 {
        let weight = path[at].weight;
        path[at] = Step { weight, ..path[at + 1] };
    }
    path.pop();
}

/// The sum of the weights that [`unwind`] would leave.
fn unwound_weight(path: &[Step], from: usize) -> f64 {
    let Step { zero, one, .. } = path[from];
    let length = path.len();
    let (mut next, mut sum) = (path[length - 1].weight, 0.0);
    for at in (0..length - 1).rev() {
        let weight;
        (weight, next) = without(path[at].weight, next, at, length, zero, one);
        sum += weight;
    }
    sum
}

/// The weight at a place without a step, and what the place before needs to know.
fn without(weight: f64, next: f64, at: usize, length: usize, zero: f64, one: f64) -> (f64, f64) {
    let (whole, others) = (length as f64, (length - 1 - at) as f64);
    if one == 0.0 {
        return (weight * whole / (zero * others), next);
    }
    let found = next * whole / ((at + 1) as f64 * one);
    (found, weight - found * zero * others / whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    /// A node with its cover: a split, or a leaf's value.
    struct Node {
        split: Option<Split>,
        value: f64,
        cover: f64,
    }

    impl TreeView for Vec<Node> {
        fn split(&self, node: usize) -> Option<Split> {
            self[node].split
        }

        fn value(&self, leaf: usize) -> f64 {
            self[leaf].value
        }

        fn cover(&self, node: usize) -> f64 {
            self[node].cover
        }
    }

    /// A random tree that may split on a feature many times, and where some branches no training row came to.
    fn grow(chance: &mut Chance, nodes: &mut Vec<Node>, depth: u32, features: u64, cover: u64) -> usize {
        let at = nodes.len();
        nodes.push(Node { split: None, value: chance.normal(), cover: cover as f64 });
        if depth > 0 && chance.below(6) > 0 {
            let feature = chance.below(features) as usize;
            let threshold = chance.unit();
            let to_left = chance.below(cover + 1);
            let left = grow(chance, nodes, depth - 1, features, to_left);
            let right = grow(chance, nodes, depth - 1, features, cover - to_left);
            nodes[at].split = Some(Split { feature, threshold, left, right, missing_right: true });
        }
        at
    }

    /// What the tree predicts knowing only the features of a set.
    fn knowing(tree: &Vec<Node>, node: usize, row: &[f64], known: u32) -> f64 {
        let Some(split) = tree.split(node) else { return tree.value(node) };
        let (left, right) = match known >> split.feature & 1 {
            1 if row[split.feature] <= split.threshold => (1.0, 0.0),
            1 => (0.0, 1.0),
            _ => shares(tree, &split),
        };
        left * knowing(tree, split.left, row, known) + right * knowing(tree, split.right, row, known)
    }

    /// Shapley values by their definition, over all sets of features.
    fn by_definition(tree: &Vec<Node>, row: &[f64]) -> Vec<f64> {
        let features = row.len() as u32;
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        let share = |feature: u32| {
            let without = (0..1_u32 << features).filter(|set| set >> feature & 1 == 0);
            let gain = |set: u32| {
                let size = set.count_ones();
                let weight = factorial(size) * factorial(features - size - 1) / factorial(features);
                weight * (knowing(tree, 0, row, set | 1 << feature) - knowing(tree, 0, row, set))
            };
            without.map(gain).sum()
        };
        (0..features).map(share).collect()
    }

    #[test]
    fn attributions_are_shapley_values_by_definition() {
        for seed in 0..300 {
            let mut chance = Chance::stream(seed, &[]);
            let features = 1 + seed % 7;
            let mut tree = Vec::new();
            grow(&mut chance, &mut tree, 9, features, 500);
            let row: Vec<f64> = (0..features).map(|_| chance.unit()).collect();
            let mut found = vec![0.0; features as usize];
            attribute(&tree, &row, 1.0, &mut found);
            for (found, expected) in found.iter().zip(by_definition(&tree, &row)) {
                assert!((found - expected).abs() < 1e-9, "seed {seed}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn shares_add_up_to_the_prediction_less_the_expectation() {
        for seed in 0..20 {
            let mut chance = Chance::stream(seed, &[1]);
            let mut tree = Vec::new();
            grow(&mut chance, &mut tree, 14, 30, 100_000);
            let row: Vec<f32> = (0..30).map(|_| chance.unit() as f32).collect();
            let mut shares = vec![0.0; 30];
            attribute(&tree, &row, 0.5, &mut shares);
            let exact: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
            let moved = knowing(&tree, 0, &exact, u32::MAX) - expectation(&tree);
            let sum: f64 = shares.iter().sum();
            assert!((sum - 0.5 * moved).abs() < 1e-9, "seed {seed}: {sum} instead of {}", 0.5 * moved);
        }
    }

    #[test]
    fn a_single_leaf_attributes_nothing() {
        let tree = vec![Node { split: None, value: 3.0, cover: 5.0 }];
        let mut shares = [0.0];
        attribute(&tree, &[1.0_f32], 1.0, &mut shares);
        assert_eq!((shares, expectation(&tree)), ([0.0], 3.0));
    }
}
