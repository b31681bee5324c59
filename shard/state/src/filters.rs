//! Tag filters of this shard's subscribers: equal ones are kept once, and asked once per publication.

use crate::sparse::{GiveBack, is_sparse};
use ringcast_proto::filter::Filter;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Names a filter that some subscription uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FilterId(NonZeroU32);

/// The filters in use. Bound: one per subscription.
#[derive(Debug)]
pub(crate) struct Filters {
    entries: Vec<Option<Entry>>,
    ids: HashMap<Arc<Filter>, FilterId, foldhash::fast::FixedState>,
    free: Vec<FilterId>,
}

#[derive(Debug)]
struct Entry {
    filter: Arc<Filter>,
    users: u32,
}

impl FilterId {
    fn new(index: usize) -> Self {
        FilterId(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Filters {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let hasher = foldhash::fast::FixedState::with_seed(hash_seed);
        Filters { entries: Vec::new(), ids: HashMap::with_hasher(hasher), free: Vec::new() }
    }

    /// One more subscription uses the filter.
    pub(crate) fn enter(&mut self, filter: Filter) -> FilterId {
        if let Some(&id) = self.ids.get(&filter) {
            self.entry(id).users += 1;
            return id;
        }
        let filter = Arc::new(filter);
        let entry = Some(Entry { filter: Arc::clone(&filter), users: 1 });
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id.index()] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                FilterId::new(self.entries.len() - 1)
            }
        };
        self.ids.insert(filter, id);
        id
    }

    /// One fewer.
    pub(crate) fn exit(&mut self, id: FilterId) {
        let entry = self.entry(id);
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        if let Some(Entry { filter, .. }) = self.entries[id.index()].take() {
            self.ids.remove(&filter);
        }
        self.free.push(id);
        if is_sparse(self.ids.len(), self.ids.capacity()) {
            self.shrink();
        }
    }

    /// Gives back what is free behind the last filter in use.
    fn shrink(&mut self) {
        let used = self.entries.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.entries.truncate(used);
        self.entries.shrink_to(2 * used);
        self.free.retain(|id| id.index() < used);
        self.free.shrink_to_fit();
        self.ids.give_back();
    }

    pub(crate) fn get(&self, id: FilterId) -> &Arc<Filter> {
        &self.entries[id.index()].as_ref().expect("a filter in use is there").filter
    }

    fn matches(&self, id: FilterId, tags: &BTreeMap<String, String>) -> bool {
        self.get(id).matches(tags)
    }

    fn entry(&mut self, id: FilterId) -> &mut Entry {
        self.entries[id.index()].as_mut().expect("a filter in use is there")
    }
}

/// What the filters say of one publication: each is asked at most once.
pub(crate) struct Verdicts<'a> {
    filters: &'a Filters,
    tags: &'a BTreeMap<String, String>,
    known: HashMap<FilterId, bool, foldhash::fast::FixedState>,
}

impl<'a> Verdicts<'a> {
    pub(crate) fn new(filters: &'a Filters, tags: &'a BTreeMap<String, String>) -> Self {
        Verdicts { filters, tags, known: HashMap::default() }
    }

    pub(crate) fn wants(&mut self, filter: FilterId) -> bool {
        *self.known.entry(filter).or_insert_with(|| self.filters.matches(filter, self.tags))
    }
}
