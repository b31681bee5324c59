//! `/emulation`: commands for a client whose transport carries only what the server sends.

use ringcast_proto::client::{EmulationRequest, Encoding, decode_emulation_request};
use ringcast_state::{ApiCallId, EmulationError, Now, Shard};

use super::stream::{PROTOBUF_TYPE, preflight};
use crate::http::Site;
use crate::http::body::Purpose;
use crate::http::exchange::Begun;
use crate::http::reply::Reply;

/// What a request leads to; its session is looked at once the body has come.
pub fn begin(site: &Site, reply: &mut Reply<'_, '_>) -> Begun {
    let head = reply.head;
    if head.method() == "OPTIONS" {
        return Begun::Step(preflight(site, reply));
    }
    let Some(cors) = site.admit(head) else {
        let status = if head.method() == "POST" { 403 } else { 405 };
        return Begun::Step(reply.empty(status));
    };
    if head.method() != "POST" {
        return Begun::Step(reply.respond(405, &cors.headers(), b""));
    }
    let is_protobuf = head.header("Content-Type") == Some(PROTOBUF_TYPE);
    let encoding = if is_protobuf { Encoding::Protobuf } else { Encoding::Json };
    Begun::Body(Purpose::Emulation { encoding, cors }, site.options.emulation.max_request_body_size)
}

/// The commands in a body, or the status that refuses it.
pub fn decode(encoding: Encoding, body: &[u8]) -> Result<EmulationRequest, u16> {
    decode_emulation_request(encoding, body).map_err(|error| {
        tracing::debug!(%error, "bad emulation request");
        400
    })
}

/// Gives commands to their connection. `None` where another node has it: `call` is answered later.
pub fn pass_on(
    shard: &mut Shard,
    now: Now,
    call: ApiCallId,
    encoding: Encoding,
    request: &EmulationRequest,
) -> Option<Result<(), EmulationError>> {
    match shard.handle_emulation(now, request) {
        Err(EmulationError::UnknownNode) => shard.forward_emulation(now, call, encoding, request).err().map(Err),
        passed => Some(passed),
    }
}
