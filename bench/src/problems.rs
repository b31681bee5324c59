//! What went wrong with connections and requests: all of it is counted, the first few reasons are told.

/// Reasons that are kept.
const REASONS_MAX: usize = 5;

/// Of one run.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    count: u64,
    reasons: Vec<String>,
}

impl Problems {
    /// Takes note of one.
    pub fn note(&mut self, reason: String) {
        self.note_many(1, reason);
    }

    /// Takes note of `count` that have one reason; of none, nothing.
    pub fn note_many(&mut self, count: u64, reason: String) {
        self.count += count;
        if count > 0 && self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first different ones.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_different_ones_are_kept() {
        let mut problems = Problems::default();
        for number in [0, 0, 1, 2, 3, 4, 5, 6] {
            problems.note(number.to_string());
        }
        problems.note_many(0, "none".to_owned());
        assert_eq!((problems.count(), problems.to_string().as_str()), (8, "0; 1; 2; 3; 4"));
    }
}
