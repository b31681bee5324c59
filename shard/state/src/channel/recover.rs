//! What a returning subscriber missed. Source: protocol §6.

use super::Stream;
use super::publication::{Publication, patch_chain};
use crate::Variant;
use crate::message::{Recover, Recovery};
use ringcast_proto::delta;
use std::sync::Arc;

/// Everything since the position of the wish, or the confession that it is not there any more.
pub(super) fn recover(stream: &mut Stream, wish: &Recover, variant: Variant, table: &mut delta::Table) -> Recovery {
    if wish.cache {
        return recover_latest(stream, wish, variant);
    }
    let top = stream.position();
    let lost = Recovery::default();
    if !wish.epoch.is_empty() && *wish.epoch != *top.epoch {
        return lost;
    }
    let mut publications = match wish.filter {
        None if variant.is_delta() => stream.patched_after(wish.offset, limit(wish), variant, table),
        _ => stream.after(wish.offset, limit(wish), variant.whole()),
    };
    let recovered = match (publications.first(), publications.last()) {
        (Some(first), Some(last)) => first.offset == wish.offset + 1 && last.offset == top.offset,
        _ => wish.offset == top.offset,
    };
    if !recovered {
        return lost;
    }
    if wish.filter.is_some() {
        publications.retain(|publication| is_wanted(wish, publication));
        patch_chain(&mut publications, variant, table);
    }
    Recovery { recovered, publications }
}

/// Cache mode: the latest publication that the client wants, unless its position is that of the stream. When there is none,
/// it is told that nothing was recovered.
fn recover_latest(stream: &mut Stream, wish: &Recover, variant: Variant) -> Recovery {
    let top = stream.position();
    let is_level = wish.offset > 0 && wish.offset == top.offset && *wish.epoch == *top.epoch;
    let limit = if wish.filter.is_some() { limit(wish) } else { 1 };
    let newest_first = stream.before(None, limit, variant.whole());
    let Some(wanted) = newest_first.iter().find(|publication| is_wanted(wish, publication)) else {
        return Recovery { recovered: is_level, publications: Vec::new() };
    };
    let recovered = newest_first.first().is_some_and(|latest| latest.offset == top.offset);
    let publications = if recovered && !is_level { vec![Arc::clone(wanted)] } else { Vec::new() };
    Recovery { recovered, publications }
}

fn limit(wish: &Recover) -> usize {
    if wish.limit == 0 { usize::MAX } else { wish.limit }
}

fn is_wanted(wish: &Recover, publication: &Publication) -> bool {
    wish.filter.as_ref().is_none_or(|filter| filter.matches(&publication.content().tags))
}

#[cfg(test)]
mod tests {
    use super::super::publication::Publication;
    use super::super::{Retention, Stream};
    use super::*;
    use crate::Time;
    use ringcast_proto::client as wire;
    use std::sync::Arc;
    use std::time::Duration;

    /// A stream of epoch `e` with offsets 4 to 8 kept.
    fn stream() -> Stream {
        let (ttl, now) = (Duration::from_secs(10), Time(0));
        let retention = Retention { size: 5, ttl, meta_ttl: ttl };
        let mut stream = Stream::new("e".into(), now, ttl);
        for offset in 1..=8 {
            let content = wire::Publication { offset, data: "{}".into(), ..Default::default() };
            stream.append(Arc::new(Publication::new(content, "e".into(), now, now)), retention, now);
        }
        stream
    }

    fn outcome(stream: &mut Stream, offset: u64, epoch: &str, limit: usize, cache: bool) -> (bool, Vec<u64>) {
        let wish = Recover { offset, epoch: epoch.to_owned(), cache, limit, filter: None };
        let recovery = recover(stream, &wish, Variant::Json, &mut delta::Table::default());
        (recovery.recovered, recovery.publications.iter().map(|publication| publication.offset).collect())
    }

    /// Recovers from a position; `None` is a confession.
    #[track_caller]
    fn check(offset: u64, epoch: &str, limit: usize, want: Option<&[u64]>) {
        let got = outcome(&mut stream(), offset, epoch, limit, false);
        assert_eq!(got, (want.is_some(), want.unwrap_or_default().to_vec()), "{offset} {epoch} {limit}");
    }

    #[track_caller]
    fn check_cache(stream: &mut Stream, offset: u64, epoch: &str, want: Option<&[u64]>) {
        let got = outcome(stream, offset, epoch, 300, true);
        assert_eq!(got, (want.is_some(), want.unwrap_or_default().to_vec()), "{offset} {epoch}");
    }

    #[test]
    fn everything_that_was_missed_comes_back() {
        check(3, "e", 300, Some(&[4, 5, 6, 7, 8]));
        check(6, "e", 300, Some(&[7, 8]));
    }

    #[test]
    fn level_client_has_missed_nothing() {
        check(8, "e", 300, Some(&[]));
    }

    #[test]
    fn empty_epoch_is_any() {
        check(6, "", 300, Some(&[7, 8]));
        check(8, "", 300, Some(&[]));
    }

    #[test]
    fn other_epoch_is_lost() {
        check(6, "f", 300, None);
        check(8, "f", 300, None);
    }

    #[test]
    fn position_before_the_oldest_is_lost() {
        check(2, "e", 300, None);
        check(0, "e", 300, None);
    }

    #[test]
    fn position_beyond_the_top_is_lost() {
        for offset in [9, u64::MAX - 1, u64::MAX] {
            check(offset, "e", 300, None);
        }
    }

    #[test]
    fn more_than_the_limit_is_lost() {
        check(3, "e", 5, Some(&[4, 5, 6, 7, 8]));
        check(3, "e", 4, None);
        check(3, "e", 0, Some(&[4, 5, 6, 7, 8]));
    }

    #[test]
    fn empty_history_recovers_a_level_client_only() {
        let mut stream = stream();
        stream.clear();
        assert_eq!(outcome(&mut stream, 8, "e", 300, false), (true, Vec::new()));
        assert_eq!(outcome(&mut stream, 7, "e", 300, false), (false, Vec::new()));
    }

    #[test]
    fn cache_brings_the_latest_unless_the_client_has_it() {
        check_cache(&mut stream(), 0, "", Some(&[8]));
        check_cache(&mut stream(), 2, "f", Some(&[8]));
        check_cache(&mut stream(), 8, "f", Some(&[8]));
        check_cache(&mut stream(), 8, "e", Some(&[]));
        check_cache(&mut stream(), u64::MAX, "e", Some(&[8]));
    }

    #[test]
    fn empty_cache_recovers_a_level_client_only() {
        let mut stream = stream();
        stream.clear();
        check_cache(&mut stream, 8, "e", Some(&[]));
        check_cache(&mut stream, 8, "", None);
        check_cache(&mut stream, 7, "e", None);
    }
}
