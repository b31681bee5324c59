//! What a returning subscriber missed. Source: protocol §6.

use super::Stream;
use crate::Variant;
use crate::message::{Recover, Recovery};
use ringcast_proto::delta;

/// Everything since the position of the wish, or the confession that it is not there any more.
pub(super) fn recover(stream: &mut Stream, wish: &Recover, variant: Variant, table: &mut delta::Table) -> Recovery {
    if wish.cache {
        return recover_latest(stream, wish, variant);
    }
    let top = stream.position();
    let lost = Recovery { recovered: false, publications: Vec::new() };
    if !wish.epoch.is_empty() && *wish.epoch != *top.epoch {
        return lost;
    }
    let limit = if wish.limit == 0 { usize::MAX } else { wish.limit };
    let publications = if variant.is_delta() && !wish.whole {
        stream.patched_after(wish.offset, limit, variant, table)
    } else {
        stream.after(wish.offset, limit, variant.whole())
    };
    let recovered = match (publications.first(), publications.last()) {
        (Some(first), Some(last)) => first.offset == wish.offset + 1 && last.offset == top.offset,
        _ => wish.offset == top.offset,
    };
    if recovered { Recovery { recovered, publications } } else { lost }
}

/// Cache mode: the latest publication, unless the client has just that.
fn recover_latest(stream: &mut Stream, wish: &Recover, variant: Variant) -> Recovery {
    let top = stream.position();
    let is_level = wish.offset > 0 && wish.offset == top.offset && *wish.epoch == *top.epoch;
    let Some(latest) = stream.latest(variant.whole()) else {
        return Recovery { recovered: is_level, publications: Vec::new() };
    };
    let recovered = latest.offset == top.offset;
    let publications = if recovered && !is_level { vec![latest] } else { Vec::new() };
    Recovery { recovered, publications }
}
