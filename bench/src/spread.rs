//! Figures of several windows: the median and how far they lie apart. Machines drift, single figures lie.

use serde_json::{Value, json};

/// Median, least and greatest of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { (figures[middle - 1] + figures[middle]) / 2.0 };
        Some(Self { median, min, max })
    }

    /// For the machine-readable report.
    pub fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(figures: &[f64], want: Option<[f64; 3]>) {
        let spread = Spread::of(figures.iter().copied());
        assert_eq!(spread.map(|s| [s.median, s.min, s.max]), want, "{figures:?}");
    }

    #[test]
    fn median_of_odd_and_even_counts() {
        check(&[3.0, 1.0, 2.0], Some([2.0, 1.0, 3.0]));
        check(&[4.0, 1.0, 2.0, 3.0], Some([2.5, 1.0, 4.0]));
        check(&[7.0], Some([7.0, 7.0, 7.0]));
    }

    #[test]
    fn no_figures_no_spread() {
        check(&[], None);
    }
}
