//! The legacy endpoint: several commands with ids in one request. Source: server API §1.2.

use super::json::write_reply;
use super::{ApiResult, Method, Request, decode_shared_request};
use crate::DecodeError;
use crate::codes::ApiError;
use crate::json::{Dialect, Reader, Value, Writer};
use bytes::Bytes;

/// One command of a legacy request.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyCommand {
    /// Echoed in the reply; 0 is left out.
    pub id: u32,
    /// The request, or what is to be answered in its place: 104 for an unknown number, 107 for undecodable parameters.
    pub request: Result<Request, ApiError>,
}

/// Decodes the commands of a body, with any white space between them. Bound: [`BATCH_COMMANDS_MAX`](super::BATCH_COMMANDS_MAX).
///
/// One that cannot be decoded fails the whole body, with status 400. The reference has served those before it by then; here
/// none is.
pub fn decode_legacy_commands(body: &Bytes) -> Result<Vec<LegacyCommand>, DecodeError> {
    let mut reader = Reader::sharing(body)?;
    let mut commands = Vec::new();
    if body.is_empty() {
        return Err(reader.error("empty body"));
    }
    while reader.peek().is_some() {
        if commands.len() == super::BATCH_COMMANDS_MAX {
            return Err(reader.error("too many commands"));
        }
        commands.push(decode_command(&mut reader)?);
    }
    Ok(commands)
}

fn decode_command(reader: &mut Reader<'_>) -> Result<LegacyCommand, DecodeError> {
    let (mut id, mut method, mut params) = (0_u32, Some(Method::Publish), Bytes::new());
    if !reader.null() {
        reader.object(|reader, key| match &*key.to_ascii_lowercase() {
            "id" => id.decode(reader),
            "method" => decode_method(reader).map(|decoded| method = decoded),
            "params" => params.decode(reader),
            _ => reader.raw().map(drop),
        })?;
    }
    let request = match method {
        Some(Method::Info) => Ok(Request::Info),
        Some(method) => decode_shared_request(method, &params).map_err(|_| ApiError::BAD_REQUEST),
        None => Err(ApiError::NOT_FOUND),
    };
    Ok(LegacyCommand { id, request })
}

/// A number, or a name in any case. Names must be known, numbers need not.
fn decode_method(reader: &mut Reader<'_>) -> Result<Option<Method>, DecodeError> {
    if reader.peek() != Some(b'"') {
        let number = reader.number()?.parse().map_err(|_| reader.error("method that is no integer"))?;
        return Ok(Method::from_legacy_number(number));
    }
    let name = reader.string()?.to_ascii_lowercase();
    match Method::from_path(&name).filter(|method| *method != Method::Batch) {
        None if !UNSERVED.contains(&&*name) => Err(reader.error("unknown method")),
        method => Ok(method),
    }
}

/// Names that the endpoint knows, of methods that are not served. Source: server API §1.2.
const UNSERVED: &[&str] = &[
    "connections",
    "update_user_status",
    "get_user_status",
    "delete_user_status",
    "block_user",
    "unblock_user",
    "revoke_token",
    "invalidate_user_tokens",
    "device_register",
    "device_update",
    "device_remove",
    "device_list",
    "device_topic_list",
    "device_topic_update",
    "user_topic_list",
    "user_topic_update",
    "send_push_notification",
    "update_push_status",
    "cancel_push",
    "map_publish",
    "map_remove",
    "map_read_state",
    "map_read_stream",
    "map_stats",
    "map_clear",
    "shared_poll_publish",
];

/// Appends one reply; the caller joins replies with newlines.
pub fn encode_legacy_reply(id: u32, reply: &Result<ApiResult, ApiError>, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out, Dialect::Api);
    write_reply(Some(id).filter(|id| *id != 0), reply, |_| "result", &mut writer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids with the method or the error's code of the commands of a body; `None` when it is refused.
    #[track_caller]
    fn check(body: &str, want: Option<&[(u32, Result<Method, u32>)]>) {
        let got = decode_legacy_commands(&Bytes::copy_from_slice(body.as_bytes())).ok().map(|commands| {
            let describe = |command: LegacyCommand| {
                (command.id, command.request.map(|request| request.method()).map_err(|error| error.code))
            };
            commands.into_iter().map(describe).collect::<Vec<_>>()
        });
        assert_eq!(got.as_deref(), want, "{body}");
    }

    /// A03
    #[test]
    fn commands_follow_each_other_with_any_white_space() {
        let history = r#"{"id":5,"method":"history","params":{"channel":"hh:x"}}"#;
        check(history, Some(&[(5, Ok(Method::History))]));
        check(&format!("{history}{history}\n\n {history} "), Some(&[(5, Ok(Method::History)); 3]));
        check(r#"{"method":"INFO"}{"method":9,"params":5}"#, Some(&[(0, Ok(Method::Info)); 2]));
        check(r#"{"params":{"channel":"a"}}"#, Some(&[(0, Ok(Method::Publish))]));
        check(" ", Some(&[]));
    }

    #[test]
    fn unknown_numbers_and_bad_parameters_fail_their_command() {
        check(r#"{"method":33,"params":{}}{"method":-1}"#, Some(&[(0, Err(104)), (0, Err(104))]));
        check(r#"{"method":"connections"}{"method":"BLOCK_USER"}"#, Some(&[(0, Err(104)), (0, Err(104))]));
        check(r#"{"id":1,"method":"publish"}"#, Some(&[(1, Err(107))]));
        check(r#"{"id":1,"method":"publish","params":{"channel":1}}"#, Some(&[(1, Err(107))]));
    }

    #[test]
    fn unknown_names_and_broken_bodies_are_refused() {
        for body in [
            "",
            "[]",
            "{",
            r#"{"method":"nosuch"}"#,
            r#"{"method":"batch"}"#,
            r#"{"method":1.5}"#,
            r#"{"method":null}"#,
            r#"{"id":-1}"#,
            "{} x",
        ] {
            check(body, None);
        }
        assert!(decode_legacy_commands(&Bytes::from_static(b"{\"method\":\"\xff\"}")).is_err());
    }

    #[test]
    fn replies_have_the_id_of_their_command() {
        for (id, reply, want) in [
            (5, Ok(ApiResult::Refresh), r#"{"id":5,"result":{}}"#),
            (0, Ok(ApiResult::Refresh), r#"{"result":{}}"#),
            (5, Err(ApiError::NOT_FOUND), r#"{"id":5,"error":{"code":104,"message":"not found"}}"#),
        ] {
            let mut out = Vec::new();
            encode_legacy_reply(id, &reply, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}
