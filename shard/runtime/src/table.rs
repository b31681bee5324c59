//! Entries by small numbers, as sockets and connections are kept.

/// Grows by chunks and never moves an entry: a list that doubles would copy everything in one turn, and keep up to half
/// of its memory empty.
pub(crate) struct Table<T> {
    chunks: Vec<Box<[T]>>,
    vacant: fn() -> T,
}

/// Entries of a chunk, a power of two: 32 KiB of the largest.
const CHUNK: usize = 256;

impl<T> Table<T> {
    /// Empty; `vacant` makes the entries that are not in use.
    pub fn new(vacant: fn() -> T) -> Self {
        Self { chunks: Vec::new(), vacant }
    }

    /// Entries, vacant ones included.
    pub fn len(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// Makes sure that there is an entry of this number.
    pub fn reach(&mut self, index: usize) {
        while self.len() <= index {
            self.chunks.push((0..CHUNK).map(|_| (self.vacant)()).collect());
        }
    }

    /// None beyond the last chunk.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK).map(|chunk| &chunk[index % CHUNK])
    }

    /// None beyond the last chunk.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK).map(|chunk| &mut chunk[index % CHUNK])
    }

    /// All entries by number, vacant ones included.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// All entries by number, vacant ones included.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are_while_the_table_grows() {
        let mut table = Table::new(|| 0);
        assert_eq!((table.len(), table.get(0)), (0, None));
        table.reach(0);
        *table.get_mut(0).unwrap() = 7;
        let place: *const i32 = table.get(0).unwrap();
        table.reach(10 * CHUNK);
        assert_eq!(table.len(), 11 * CHUNK);
        assert_eq!((table.get(0), std::ptr::from_ref(table.get(0).unwrap())), (Some(&7), place));
        assert_eq!((table.get(10 * CHUNK), table.get(11 * CHUNK)), (Some(&0), None));
        assert_eq!(table.iter().sum::<i32>(), 7);
    }
}
