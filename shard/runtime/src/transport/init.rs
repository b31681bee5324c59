//! `/connection/init`: lets a client open its connection before it needs it.

use crate::http::Site;
use crate::http::exchange::Step;
use crate::http::origin::Cors;
use crate::http::reply::Reply;

/// An empty object, whoever asks.
pub fn serve(site: &Site, reply: &mut Reply<'_, '_>) -> Step<'static> {
    let cors = match site.origins.allow(reply.head.header("Origin")) {
        true => Cors::new(reply.head),
        false => Cors::default(),
    };
    let mut headers = cors.headers();
    if reply.head.method() != "GET" {
        return reply.respond(405, &headers, b"");
    }
    headers.push(("Content-Type", "application/json; charset=utf-8"));
    reply.respond(200, &headers, b"{}")
}
