//! Sends responses, which the rest of the server writes as HTTP/1 has them, on streams.

use h2::Reason;
use h2::server::SendResponse;

use super::message;
use super::outgoing::{Chunk, Outgoing};
use crate::uring::SendBytes;

/// Sends a whole response.
pub fn whole(out: &Outgoing, respond: &mut SendResponse<Chunk>, response: Vec<u8>) {
    send(out, respond, response, true);
}

/// Sends the head of a response that goes on, and what may follow it already.
pub fn begin(out: &Outgoing, respond: &mut SendResponse<Chunk>, response: Vec<u8>) {
    send(out, respond, response, false);
}

fn send(out: &Outgoing, respond: &mut SendResponse<Chunk>, bytes: Vec<u8>, is_whole: bool) {
    let Some((response, content)) = message::response(&bytes) else {
        tracing::error!("a response of our own that HTTP/2 cannot send");
        respond.send_reset(Reason::INTERNAL_ERROR);
        return lose(out);
    };
    let has_content = content < bytes.len();
    let Ok(send) = respond.send_response(response, is_whole && !has_content) else {
        return lose(out);
    };
    out.began(send);
    if has_content {
        out.send(SendBytes::Owned(bytes), content, is_whole, is_whole);
    }
}

fn lose(out: &Outgoing) {
    out.lost.set(true);
    out.tell();
}
