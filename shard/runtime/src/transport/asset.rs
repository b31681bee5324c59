//! Static files: the page of the development mode, those that describe the server API.

use crate::http::exchange::Step;
use crate::http::reply::Reply;
use crate::options::Asset;

/// GET and HEAD.
pub fn serve(file: &Asset, reply: &mut Reply<'_, '_>) -> Step<'static> {
    match reply.head.method() {
        "GET" | "HEAD" => {
            let headers = [("Content-Type", file.content_type.as_str()), ("Cache-Control", "no-cache")];
            reply.respond(200, &headers, &file.bytes)
        }
        _ => reply.respond(405, &[("Allow", "GET, HEAD")], b""),
    }
}

/// To another path of this server, whatever the method.
pub fn redirect(path: &str, reply: &mut Reply<'_, '_>) -> Step<'static> {
    reply.respond(307, &[("Location", path)], b"")
}
