//! What the home side needs of its shard to act.

use crate::message::Message;
use crate::metrics::Metrics;
use crate::post::Post;
use crate::random::Random;
use crate::wheel::Wheel;
use crate::{Now, Options, ShardId};
use ringcast_proto::delta;

/// Time, options and ways out, for the length of one message.
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) options: &'a Options,
    pub(crate) post: &'a mut Post,
    pub(crate) random: &'a mut Random,
    pub(crate) wheel: &'a mut Wheel,
    pub(crate) metrics: &'a mut Metrics,
    pub(crate) delta_table: &'a mut delta::Table,
    /// The shard whose message it is.
    pub(crate) from: ShardId,
}

impl Context<'_> {
    /// Answers the shard that asked.
    pub(crate) fn answer(&mut self, message: Message) {
        self.post.send(self.from, message);
    }
}
