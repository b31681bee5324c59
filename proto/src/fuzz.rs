//! Bodies of the fuzz targets: what must hold for any bytes. Run by `fuzz/` and, with a small corpus, by the tests.

use crate::client::{
    Command, Encoding, FilterNode, Request, decode_commands, decode_connect_request, decode_emulation_request,
    decode_replies, encode_command, encode_reply,
};
use crate::delta::{Table, decode, encode};
use crate::http::{ChunkedDecoder, Limits, parse_head, parse_response};
use crate::websocket::{Decoder, Deflater, Event, Inflater, ProtocolError, Role};
use crate::{api, control, filter, nats, proxy, redis, sockjs, websocket};
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::ops::ControlFlow;

/// A body. Panics when something does not hold.
pub type Target = fn(&[u8]);

/// All bodies by name.
pub const TARGETS: [(&str, Target); 15] = [
    ("command_json", command_json),
    ("command_protobuf", command_protobuf),
    ("reply", reply),
    ("api_request", api_request),
    ("websocket", websocket),
    ("websocket_deflate", websocket_deflate),
    ("http_head", http_head),
    ("chunked", chunked),
    ("delta", delta),
    ("filter", filter),
    ("sockjs", sockjs),
    ("proxy_reply", proxy_reply),
    ("redis", redis),
    ("nats", nats),
    ("control", control),
];

/// Commands in JSON come back when written again.
pub fn command_json(data: &[u8]) {
    for command in decode_commands(Encoding::Json, data).flatten() {
        check_command(&command, Encoding::Json);
    }
    let _ = decode_connect_request(Encoding::Json, data);
    let _ = decode_emulation_request(Encoding::Json, data);
}

/// Commands in Protobuf come back when written again, and are written in JSON whole or not at all.
pub fn command_protobuf(data: &[u8]) {
    for command in decode_commands(Encoding::Protobuf, data).flatten() {
        check_command(&command, Encoding::Protobuf);
        let mut line = Vec::new();
        encode_command(Encoding::Json, &command, &mut line);
        assert!(line.is_empty() || crate::is_json(&line), "not JSON");
        assert!(!line.contains(&b'\n'), "two lines");
    }
    let _ = decode_connect_request(Encoding::Protobuf, data);
    let _ = decode_emulation_request(Encoding::Protobuf, data);
}

fn check_command(command: &Command, encoding: Encoding) {
    let mut frame = Vec::new();
    encode_command(encoding, command, &mut frame);
    let again: Vec<_> = decode_commands(encoding, &frame).collect();
    assert!(matches!(&again[..], [Ok(again)] if again == command), "{command:?} became {again:?}");
    if let Some(Request::Publish(request)) = &command.request {
        assert!(
            encoding == Encoding::Protobuf || request.data.is_empty() || crate::is_json(&request.data),
            "payload is not JSON"
        );
    }
}

/// Replies come back when written again. The first byte chooses the encoding.
pub fn reply(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let encoding = if choice % 2 == 0 { Encoding::Json } else { Encoding::Protobuf };
    for reply in decode_replies(encoding, data).flatten() {
        let mut frame = Vec::new();
        if encode_reply(encoding, &reply, &mut frame).is_ok() {
            let again: Vec<_> = decode_replies(encoding, &frame).collect();
            assert!(matches!(&again[..], [Ok(again)] if *again == reply), "{reply:?} became {again:?}");
        }
        frame.clear();
        match encode_reply(Encoding::Json, &reply, &mut frame) {
            Ok(()) => assert!(crate::is_json(&frame) && !frame.contains(&b'\n'), "not a line of JSON"),
            Err(_) => assert!(frame.is_empty(), "half a reply"),
        }
    }
}

/// Bodies of the server API. The first byte chooses the method.
pub fn api_request(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let method = api::Method::ALL[usize::from(*choice) % api::Method::ALL.len()];
    if let Ok(request) = api::decode_request(method, data) {
        assert!(request.method() == method, "another method");
        if let api::Request::Publish(request) = request {
            let _ = request.payload();
        }
    }
    let _ = api::decode_protobuf_request(method, data);
    let shared = Bytes::copy_from_slice(data);
    assert!(api::decode_shared_request(method, &shared) == api::decode_request(method, data), "a kept body differs");
    let _ = api::decode_legacy_commands(&shared);
}

/// Any split of a stream gives the same events and the same end. The first byte chooses side and size of the pieces.
pub fn websocket(data: &[u8]) {
    check_stream(data, |role| Decoder::new(role, MESSAGE_BYTES_MAX));
}

/// The same with deflated messages, none of which inflates beyond its limit; and what was inflated comes back when it is
/// deflated again.
pub fn websocket_deflate(data: &[u8]) {
    let seen = check_stream(data, |role| Decoder::new(role, MESSAGE_BYTES_MAX).with_deflate(INFLATED_BYTES_MAX));
    let (mut deflater, mut deflated) = (Deflater::default(), Vec::new());
    for (opcode, _, message) in seen {
        assert!(message.len() <= INFLATED_BYTES_MAX, "inflated over the limit");
        for level in 0..=9 {
            if opcode <= 2 && deflater.deflate(level, &message, &mut deflated) {
                assert!(deflated.len() < message.len(), "longer than before");
                let again = Inflater::default().inflate(&deflated, message.len()).map(<[u8]>::to_vec);
                assert!(again == Ok(message.clone()), "another message at level {level}");
            }
        }
    }
}

const MESSAGE_BYTES_MAX: usize = 4096;
const INFLATED_BYTES_MAX: usize = 16_384;

/// Opcode, close code and payload of an event.
type Seen = (u8, Option<u16>, Vec<u8>);

type End = Result<ControlFlow<()>, ProtocolError>;

/// Decodes a stream in pieces and whole.
fn check_stream(data: &[u8], decoder: impl Fn(Role) -> Decoder) -> Vec<Seen> {
    let Some((choice, data)) = data.split_first() else { return Vec::new() };
    let role = if choice % 2 == 0 { Role::Server } else { Role::Client };
    let pieces = usize::from(choice / 2) + 1;
    let whole = decode_stream(decoder(role), data, data.len().max(1));
    assert!(decode_stream(decoder(role), data, pieces) == whole, "split in {pieces}");
    whole.0
}

fn decode_stream(mut decoder: Decoder, data: &[u8], step: usize) -> (Vec<Seen>, End) {
    let (mut inflater, mut seen) = (Inflater::default(), Vec::new());
    let mut end = Ok(ControlFlow::Continue(()));
    for piece in data.chunks(step) {
        end = decoder.decode_with(&mut piece.to_vec(), &mut inflater, &mut |event| {
            seen.push(match event {
                Event::Text(bytes) => (1, None, bytes.to_vec()),
                Event::Binary(bytes) => (2, None, bytes.to_vec()),
                Event::Close { code, reason } => (8, code, reason.to_vec()),
                Event::Ping(bytes) => (9, None, bytes.to_vec()),
                Event::Pong(bytes) => (10, None, bytes.to_vec()),
            });
            ControlFlow::Continue(())
        });
        if end != Ok(ControlFlow::Continue(())) {
            break;
        }
    }
    (seen, end)
}

/// A head depends on nothing behind it, is no other one when it comes in pieces, and everything in it can be asked for.
pub fn http_head(data: &[u8]) {
    let limits = Limits { head_bytes_max: 2048, target_bytes_max: 512, header_lines_max: 32 };
    if let Ok(Some((head, len))) = parse_head(data, &limits) {
        assert!(len <= data.len() && len <= limits.head_bytes_max, "longer than allowed");
        assert!(
            matches!(parse_head(&data[..len], &limits), Ok(Some((_, again))) if again == len),
            "depends on the body"
        );
        for end in [len / 4, len / 2, len.saturating_sub(2), len - 1] {
            assert!(matches!(parse_head(&data[..end], &limits), Ok(None)), "another head with {end} bytes of {len}");
        }
        assert!(!(head.chunked() && head.content_length().is_some()), "two ways to end");
        head.query().pairs().count();
        let _ = (
            head.path(),
            head.keep_alive(),
            head.expect_continue(),
            websocket::accept(&head, websocket::Strictness::Strict),
        );
    }
    let _ = parse_response(data, &limits);
    let _ = websocket::check_response(data, [0; 16], &limits);
}

/// Any split of a chunked body gives the same. The first byte chooses the size of the pieces.
pub fn chunked(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let pieces = usize::from(*choice) + 1;
    assert!(decode_chunks(data, pieces) == decode_chunks(data, data.len().max(1)), "split in {pieces}");
}

/// The body and the number of bytes used, or the status.
fn decode_chunks(data: &[u8], step: usize) -> Result<(Vec<u8>, usize), u16> {
    let (mut decoder, mut body, mut used) = (ChunkedDecoder::new(4096), Vec::new(), 0);
    for piece in data.chunks(step) {
        used += decoder.decode(piece, &mut body).map_err(|error| error.status)?;
        assert!(body.len() <= 4096, "body over the limit");
    }
    Ok((body, used))
}

/// A patch gives its target back, and of a text it is text. Any bytes are a patch or an error. The first byte tells where
/// the base ends.
pub fn delta(data: &[u8]) {
    let Some((base_len, data)) = data.split_first() else { return };
    let (base, target) = data.split_at(data.len().min((*base_len).into()));
    let (mut table, mut patch, mut again) = (Table::default(), Vec::new(), Vec::new());
    let _ = decode(base, target, 4096, &mut again);
    assert!(again.len() <= 4096, "target over the limit");
    again.clear();
    encode(base, target, &mut table, &mut patch);
    assert!(patch.len() <= target.len() + 32, "a long patch");
    assert!(str::from_utf8(target).is_err() || str::from_utf8(&patch).is_ok(), "a patch of text is not text");
    assert!(decode(base, &patch, target.len(), &mut again).is_ok() && again == target, "another target");
}

/// Any filter is refused or can be asked, and is equal to its copy.
pub fn filter(data: &[u8]) {
    let Ok(node) = FilterNode::decode(data) else { return };
    let Ok(filter) = filter::validate(&node) else { return };
    assert!(filter::validate(&node.clone()) == Ok(filter.clone()), "another filter");
    for value in ["", "a", "-1.5", "9".repeat(300).as_str()] {
        let keys = [node.key.as_str(), "", "k", "n"];
        let _ = filter.matches(&keys.map(|key| (key.to_owned(), value.to_owned())).into());
    }
}

/// What a client of SockJS sends is refused or becomes lines no longer than it, and lines come back as they went into a frame,
/// which every receiver's form takes.
pub fn sockjs(data: &[u8]) {
    if let Ok(lines) = sockjs::decode_messages(data) {
        assert!(lines.len() <= data.len(), "longer than what came");
        let mut frame = Vec::new();
        sockjs::encode_lines(&lines, &mut frame);
        let again = sockjs::decode_messages(&frame[1..]).expect("a frame is an array of strings");
        let is_line = |line: &&[u8]| !line.is_empty();
        let all =
            |lines: &[u8]| lines.split(|byte| *byte == b'\n').filter(is_line).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert!(all(&again) == all(&lines), "other messages");
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = (sockjs::parse_path(text), sockjs::iframe_page(text));
    for form in [sockjs::Form::html_file(text), sockjs::Form::jsonp(text)].into_iter().flatten() {
        let mut out = Vec::new();
        form.begin(&mut out);
        form.wrap(sockjs::OPEN, &mut out);
        assert!(out.len() < 4096, "a long frame");
    }
}

/// Answers of backends are read or refused, in JSON and in Protobuf. The first byte chooses the event.
pub fn proxy_reply(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let event = proxy::ProxyEvent::ALL[usize::from(*choice) % proxy::ProxyEvent::ALL.len()];
    if let Ok(proxy::ProxyReply::Result(proxy::ProxyResult::Rpc(Some(result)))) = proxy::decode_json_reply(event, data)
    {
        assert!(result.b64data.is_empty(), "a payload in two forms");
    }
    let _ = proxy::decode_protobuf_reply(event, data);
    let _ = proxy::decode_first_word(data);
    let _ = proxy::decode_publication(data);
}

/// Messages between nodes come back when written again; questions and answers in them never panic.
pub fn control(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    if let Ok(command) = control::decode(&message)
        && let Some(body) = command.body.clone()
    {
        let written = control::encode(&command.uid, body);
        let again = control::decode(&written.clone().into()).expect("what we wrote");
        // As bytes: a number that is none is not equal to itself.
        assert!(again.encode_to_vec() == written, "another command");
    }
    let _ = (control::survey::decode_channels(data), control::survey::decode_emulation(data));
    if let Ok(text) = str::from_utf8(data) {
        let _ = (api::decode_base64(text), crate::http::decode_path(text));
    }
}

/// Sizes of the pieces in which streams are read again.
fn piece_sizes(data: &[u8]) -> [usize; 4] {
    let by_data = data.first().map_or(1, |byte| usize::from(*byte) + 1);
    [1, 7, by_data, data.len() / 2 + 1]
}

/// RESP gives the same values however it is cut; messages on PUB/SUB never panic.
pub fn redis(data: &[u8]) {
    let read = |size: usize| {
        let (mut decoder, mut buffer, mut values) = (redis::Decoder::default(), BytesMut::new(), Vec::new());
        for piece in data.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(_) => return (values, false),
                }
            }
        }
        (values, true)
    };
    let whole = read(data.len().max(1));
    piece_sizes(data).into_iter().for_each(|size| assert_eq!(read(size), whole, "in pieces of {size}"));
    let message = Bytes::copy_from_slice(data);
    let _ = redis::decode_client_message(&message);
}

/// Operations of NATS are the same however they are cut; messages that are understood are so again when written.
pub fn nats(data: &[u8]) {
    let read = |size: usize| {
        let (mut decoder, mut buffer, mut operations) = (nats::Decoder::default(), BytesMut::new(), Vec::new());
        for piece in data.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buffer) {
                    Ok(Some(operation)) => operations.push(operation),
                    Ok(None) => break,
                    Err(_) => return (operations, false),
                }
            }
        }
        (operations, true)
    };
    let whole = read(data.len().max(1));
    piece_sizes(data).into_iter().for_each(|size| assert_eq!(read(size), whole, "in pieces of {size}"));
    let message = nats::decode_channel_message(Bytes::copy_from_slice(data));
    if let Ok(nats::ChannelMessage::Publication { channel, publication, .. }) = message {
        let again = nats::decode_channel_message(nats::encode_publication(&channel, publication.clone()).into());
        let want = nats::ChannelMessage::Publication { channel, publication, epoch: String::new() };
        assert_eq!(again, Ok(want));
    }
}
