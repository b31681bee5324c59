//! What a subscribe command was answered: position and recovered publications. Many clients are given the very same bytes, which
//! are decoded once: the tool must not become slow where the server has little to do.

use std::rc::Rc;

use ringcast_proto::client::{Encoding, Publication, Reply, ReplyResult, SubscribeResult, decode_replies};

use super::login::{Position, SUBSCRIBE_ID};
use crate::payload::{Found, Reader, Stamp};

/// A subscribe reply.
#[derive(Debug)]
pub struct Answer {
    /// Where the stream goes on; with recovered publications the one that the client gave.
    pub position: Position,
    /// The server says that nothing is missing.
    pub recovered: bool,
    /// Ascending, as the server sent them.
    pub publications: Vec<Recovered>,
}

/// A publication that a subscribe reply brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    pub offset: u64,
    /// `None` for a payload that is not of this bench, or damaged.
    pub stamp: Option<Stamp>,
}

/// The last answer that was decoded.
#[derive(Default)]
pub struct Answers {
    bytes: Vec<u8>,
    answer: Option<Rc<Answer>>,
}

impl Answers {
    /// The answer in a message; `None` for any other message.
    pub fn read(&mut self, encoding: Encoding, message: &[u8], reader: &mut Reader) -> Option<Rc<Answer>> {
        if self.bytes != message {
            self.answer = decode(encoding, message, reader).map(Rc::new);
            self.bytes.clear();
            self.bytes.extend_from_slice(message);
        }
        self.answer.clone()
    }
}

fn decode(encoding: Encoding, message: &[u8], reader: &mut Reader) -> Option<Answer> {
    let mut replies = decode_replies(encoding, message);
    match (replies.next()?.ok()?, replies.next()) {
        (Reply::Result { id: SUBSCRIBE_ID, result: ReplyResult::Subscribe(result) }, None) => {
            Some(Answer::of(*result, reader))
        }
        _ => None,
    }
}

impl Answer {
    fn of(result: SubscribeResult, reader: &mut Reader) -> Self {
        let mut recovered = |publication: &Publication| {
            let stamp = match reader.read(&publication.data) {
                Found::Stamp(stamp) => Some(stamp),
                Found::Corrupt | Found::Nothing => None,
            };
            Recovered { offset: publication.offset, stamp }
        };
        Self {
            publications: result.publications.iter().map(&mut recovered).collect(),
            recovered: result.recovered,
            position: Position { offset: result.offset, epoch: result.epoch },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;
    use ringcast_proto::client::encode_reply;

    fn message(encoding: Encoding, id: u32, sequences: &[u32]) -> Vec<u8> {
        let publication = |sequence: &u32| {
            let mut data = payload::template(60);
            payload::stamp(&mut data, Stamp { publisher: 0, sequence: *sequence, sent_ns: 0 });
            Publication { data: data.into(), offset: u64::from(*sequence) + 1, ..Publication::default() }
        };
        let publications = sequences.iter().map(publication).collect();
        let result =
            SubscribeResult { publications, recovered: true, offset: 7, epoch: "e".to_owned(), ..Default::default() };
        let mut out = Vec::new();
        let reply = Reply::Result { id, result: ReplyResult::Subscribe(Box::new(result)) };
        encode_reply(encoding, &reply, &mut out).expect("the payloads are JSON");
        out
    }

    /// Reads messages one after the other, and wants the sequence numbers in each.
    #[track_caller]
    fn check(encoding: Encoding, messages: &[(&[u8], Option<&[u32]>)]) {
        let (mut answers, mut reader) = (Answers::default(), Reader::new(60));
        for (message, want) in messages {
            let answer = answers.read(encoding, message, &mut reader);
            let got = answer.map(|answer| {
                assert!(answer.recovered && answer.position == Position { offset: 7, epoch: "e".to_owned() });
                let sequence = |publication: &Recovered| {
                    let stamp = publication.stamp.expect("a payload of the bench");
                    assert_eq!(publication.offset, u64::from(stamp.sequence) + 1);
                    stamp.sequence
                };
                answer.publications.iter().map(sequence).collect::<Vec<_>>()
            });
            assert_eq!(got.as_deref(), *want, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn each_answer_is_read_whether_it_is_new_or_the_one_before() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let (first, second) = (message(encoding, SUBSCRIBE_ID, &[0, 1]), message(encoding, SUBSCRIBE_ID, &[1]));
            check(
                encoding,
                &[(&first, Some(&[0, 1])), (&first, Some(&[0, 1])), (&second, Some(&[1])), (&first, Some(&[0, 1]))],
            );
        }
    }

    #[test]
    fn other_messages_are_no_answer() {
        let other = message(Encoding::Json, SUBSCRIBE_ID + 1, &[]);
        let good = message(Encoding::Json, SUBSCRIBE_ID, &[]);
        check(Encoding::Json, &[(&other, None), (b"{", None), (&good, Some(&[])), (b"{}", None), (b"{}", None)]);
    }

    #[test]
    fn damaged_publications_are_told() {
        let text = String::from_utf8(message(Encoding::Json, SUBSCRIBE_ID, &[0])).expect("JSON is text");
        let text = text.replace("pad\":\"x", "pad\":\"y");
        let answer = Answers::default().read(Encoding::Json, text.as_bytes(), &mut Reader::new(60));
        let answer = answer.expect("an answer");
        assert_eq!(answer.publications, [Recovered { offset: 1, stamp: None }]);
    }
}
