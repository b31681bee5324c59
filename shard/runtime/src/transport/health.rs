//! `/health`: the server is alive and its shards answer.

use crate::http::exchange::Step;
use crate::http::reply::Reply;

/// Whatever the method, as the reference does.
pub fn serve(reply: &mut Reply<'_, '_>) -> Step<'static> {
    reply.respond(200, &[("Content-Type", "application/json")], b"{}")
}
