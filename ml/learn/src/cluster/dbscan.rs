//! DBSCAN: groups are where rows lie densely (Ester, Kriegel, Sander and Xu 1996).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::matrix::{Layout, Matrix};
use crate::near::Near;
use crate::refusal::{Refusal, check_rows};

/// Rows at the most: their neighbours are looked up twice, and lists of them are held one row at a time.
pub const ROWS_MAX: usize = 10_000_000;

/// What dense is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DbscanSettings {
    /// Rows up to this distance are neighbours.
    pub radius: f64,
    /// A row with so many neighbours, itself included, is in the core of a group.
    pub neighbors_min: u32,
}

/// Rows in the cores of groups; others belong to the nearest of them within the radius.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "DbscanData", into = "DbscanData")]
pub struct Dbscan {
    radius: f64,
    /// The cores' rows and the group of each.
    cores: Matrix<f32>,
    groups: Vec<u32>,
    near: Near,
}

#[derive(Serialize, Deserialize)]
struct DbscanData {
    radius: f64,
    columns: u32,
    groups: Vec<u32>,
    /// Row by row, little-endian.
    values: serde_bytes::ByteBuf,
}

impl From<Dbscan> for DbscanData {
    fn from(model: Dbscan) -> DbscanData {
        let rows = (0..model.cores.rows()).flat_map(|row| model.cores.row(row));
        let values: Vec<u8> = rows.flat_map(|value| value.to_le_bytes()).collect();
        let columns = model.cores.columns() as u32;
        DbscanData { radius: model.radius, columns, groups: model.groups, values: values.into() }
    }
}

impl TryFrom<DbscanData> for Dbscan {
    type Error = String;

    fn try_from(data: DbscanData) -> Result<Dbscan, String> {
        let (values, rest) = data.values.as_chunks::<4>();
        let columns = data.columns as usize;
        if !rest.is_empty() || columns == 0 || columns.checked_mul(data.groups.len()) != Some(values.len()) {
            return Err(format!(
                "{} bytes don't make {} rows of {columns} columns",
                data.values.len(),
                data.groups.len()
            ));
        }
        let mut cores = Matrix::zeros(data.groups.len(), columns, Layout::Rows);
        for (at, value) in values.iter().enumerate() {
            let value = f32::from_le_bytes(*value);
            if !value.is_finite() {
                return Err("a core of DBSCAN is not a number".to_owned());
            }
            cores.set(at / columns, at % columns, value);
        }
        if !(data.radius > 0.0 && data.radius.is_finite()) {
            return Err(format!("the radius of DBSCAN is {}", data.radius));
        }
        let near = Near::new(&cores);
        Ok(Dbscan { radius: data.radius, cores, groups: data.groups, near })
    }
}

/// What is looked up is made of the cores.
impl PartialEq for Dbscan {
    fn eq(&self, other: &Dbscan) -> bool {
        (self.radius, &self.cores, &self.groups) == (other.radius, &other.cores, &other.groups)
    }
}

/// The groups of the rows.
#[derive(Clone, Debug)]
pub struct Dense {
    pub model: Dbscan,
    /// For each row its group, from 0 in the order of their first core; none if it lies alone.
    pub groups: Vec<Option<u32>>,
}

impl Dbscan {
    /// Groups rows laid out in rows.
    pub fn fit(settings: &DbscanSettings, rows: &Matrix<f64>) -> Result<Dense, Refusal> {
        let radius = settings.radius;
        if !(radius > 0.0 && radius.is_finite()) {
            return Err(Refusal::Setting { name: "radius", value: radius, wanted: "over 0" });
        }
        if settings.neighbors_min == 0 {
            return Err(Refusal::Setting { name: "neighbors_min", value: 0.0, wanted: "1 or more" });
        }
        check_rows("DBSCAN", rows, 1, ROWS_MAX)?;
        let mut narrow = Matrix::zeros(rows.rows(), rows.columns(), Layout::Rows);
        for row in 0..rows.rows() {
            for (column, &value) in rows.row(row).iter().enumerate() {
                narrow.set(row, column, crate::matrix::Element::nearest(value));
            }
        }
        let near = Near::new(&narrow);
        let neighbors = |row: usize| near.within(narrow.row(row), radius);
        let core: Vec<bool> = (0..rows.rows())
            .into_par_iter()
            .map(|row| neighbors(row).len() >= settings.neighbors_min as usize)
            .collect();
        let mut groups: Vec<Option<u32>> = vec![None; rows.rows()];
        let mut next = 0;
        for first in 0..rows.rows() {
            if !core[first] || groups[first].is_some() {
                continue;
            }
            groups[first] = Some(next);
            let mut open = vec![first];
            while let Some(row) = open.pop() {
                for neighbor in neighbors(row) {
                    let neighbor = neighbor as usize;
                    if groups[neighbor].is_none() {
                        groups[neighbor] = Some(next);
                        if core[neighbor] {
                            open.push(neighbor);
                        }
                    }
                }
            }
            next += 1;
        }
        let core_rows: Vec<usize> = (0..rows.rows()).filter(|&row| core[row]).collect();
        let mut cores = Matrix::zeros(core_rows.len(), rows.columns(), Layout::Rows);
        for (at, &row) in core_rows.iter().enumerate() {
            (0..rows.columns()).for_each(|column| cores.set(at, column, narrow.get(row, column)));
        }
        let near = Near::new(&cores);
        let core_groups = core_rows.iter().filter_map(|&row| groups[row]).collect();
        Ok(Dense { model: Dbscan { radius, cores, groups: core_groups, near }, groups })
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.cores.columns()
    }

    /// How many rows are in cores.
    pub fn cores(&self) -> usize {
        self.groups.len()
    }

    /// The group of each row of a matrix laid out in rows: that of the nearest core within the radius.
    pub fn predict(&self, rows: &Matrix<f32>) -> Vec<Option<u32>> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let group = |row: usize| {
            let nearest = *self.near.nearest(rows.row(row), 1).first()?;
            (nearest.square <= self.radius * self.radius).then(|| self.groups[nearest.row as usize])
        };
        (0..rows.rows()).into_par_iter().map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn fit(radius: f64) -> Dense {
        Dbscan::fit(&DbscanSettings { radius, neighbors_min: 5 }, &samples::blobs()).unwrap()
    }

    /// `DBSCAN(0.3).fit(blobs)` has 6 groups, 479 cores and no row alone; `DBSCAN(0.2)` has 16 groups, 190
    /// cores and 140 rows alone, and these `labels_[:20]`.
    #[test]
    fn groups_are_those_of_scikit_learn() {
        let figures = |dense: &Dense| {
            let groups = dense.groups.iter().flatten().max().map_or(0, |most| most + 1);
            (groups, dense.model.cores(), dense.groups.iter().filter(|group| group.is_none()).count())
        };
        let dense = fit(0.3);
        assert_eq!(figures(&dense), (6, 479, 0));
        assert!((0..500).all(|row| dense.groups[row] == Some(row as u32 % 6)));
        let dense = fit(0.2);
        assert_eq!(figures(&dense), (16, 190, 140));
        let first: Vec<i64> = dense.groups[..20].iter().map(|group| group.map_or(-1, i64::from)).collect();
        assert_eq!(first, [0, -1, -1, 1, 13, -1, 0, -1, 4, 2, 7, -1, -1, 3, 6, -1, -1, 5, 0, 3]);
    }

    #[test]
    fn new_rows_belong_to_the_nearest_core() {
        let dense = fit(0.3);
        let bytes = rmp_serde::to_vec_named(&dense.model).unwrap();
        let model: Dbscan = rmp_serde::from_slice(&bytes).unwrap();
        let mut rows = Matrix::zeros(3, 4, Layout::Rows);
        rows.set(0, 0, 3.05);
        rows.set(0, 1, 2.05);
        rows.set(2, 0, 50.0);
        let expected = [dense.groups[1], dense.groups[0], None];
        assert_eq!(model.predict(&rows), expected);
    }

    #[test]
    fn damage_and_bad_settings_are_refused() {
        let refused =
            Dbscan::fit(&DbscanSettings { radius: f64::NAN, neighbors_min: 5 }, &samples::blobs()).unwrap_err();
        assert_eq!(refused.to_string(), "`radius` is NaN, and must be over 0");
        let mut data = DbscanData::from(fit(0.3).model);
        data.groups.pop();
        assert!(Dbscan::try_from(data).is_err());
    }
}
