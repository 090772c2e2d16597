//! The state machine alone: each rule of the wire as a line of data, and totality as a property.

use proptest::prelude::*;

use super::*;
use crate::wire::frame::{FLAG_NO_DATA, FLAG_REMOTE_CLOSED, FLAG_REMOTE_OPEN, MAX_PAYLOAD};
use crate::wire::session::{Session, Step};

fn session() -> Session {
    Session::new(router(&Probe::new()))
}

fn incoming(stream_id: u32, kind: Kind, flags: u8, payload: &[u8]) -> Incoming {
    Incoming::Frame(Frame { stream_id, kind, flags, payload: payload.to_vec() })
}

fn open(stream_id: u32, method: &str, flags: u8, payload: &[u8]) -> Incoming {
    incoming(stream_id, Kind::Request, flags, &request(SERVICE, method, payload, Duration::ZERO))
}

/// A step in one line: what a table can name.
fn told(step: Step) -> String {
    match step {
        Step::Ignore => "ignore".to_owned(),
        Step::Answer { stream_id, status } => {
            format!("answer {stream_id} {:?} {}", status.code(), status.message)
        }
        Step::Abort { stream_id, status } => {
            format!("abort {stream_id} {:?} {}", status.code(), status.message)
        }
        Step::Call { stream_id, request, .. } => format!("call {stream_id} {}", request.method),
        Step::Open(open) => {
            format!(
                "open {} {:?} {:?} {}",
                open.stream_id, open.request.payload, open.first, open.client_open
            )
        }
        Step::Data { stream_id, message, last } => format!("data {stream_id} {message:?} {last}"),
    }
}

/// Each frame in turn, on one connection.
fn check(table: &[(Incoming, &str)]) {
    let mut session = session();
    for (incoming, expected) in table {
        assert_eq!(told(session.step(incoming.clone())), *expected, "{incoming:?}");
    }
}

const EVEN: &str = "INVALID_ARGUMENT StreamID must be odd for client initiated streams";
const USED: &str = "INVALID_ARGUMENT StreamID cannot be re-used and must increment";
const INACTIVE: &str = "INVALID_ARGUMENT StreamID is no longer active";

#[test]
fn even_ids_are_answered_at_once_whatever_the_frame() {
    check(&[
        (incoming(0, Kind::Unknown(0), 0, &[]), &format!("answer 0 {EVEN}")),
        (open(2, "Echo", 0, &[]), &format!("answer 2 {EVEN}")),
        (incoming(4, Kind::Data, 5, &[]), &format!("answer 4 {EVEN}")),
        (open(1, "Echo", 0, &[]), "call 1 Echo"),
    ]);
}

#[test]
fn answers_and_unknown_frame_types_are_never_answered() {
    check(&[
        (incoming(1, Kind::Response, 0, &[]), "ignore"),
        (incoming(2, Kind::Response, 0, &[]), "ignore"),
        (incoming(1, Kind::Unknown(9), 0, &[]), "ignore"),
        (Incoming::Oversized { stream_id: 1, kind: Kind::Response, length: u32::MAX }, "ignore"),
    ]);
}

#[test]
fn a_stream_id_must_increment() {
    check(&[
        (open(5, "Echo", 0, &[]), "call 5 Echo"),
        (open(5, "Echo", 0, &[]), &format!("answer 5 {USED}")),
        (open(3, "Echo", 0, &[]), &format!("answer 3 {USED}")),
        (open(u32::MAX, "Echo", 0, &[]), "call 4294967295 Echo"),
    ]);
}

#[test]
fn unknown_names_are_unimplemented() {
    let service = request("no.Such", "Echo", &[], Duration::ZERO);
    check(&[
        (incoming(1, Kind::Request, 0, &service), "answer 1 UNIMPLEMENTED service no.Such"),
        (open(3, "Missing", 0, &[]), "answer 3 UNIMPLEMENTED method Missing"),
    ]);
}

#[test]
fn a_request_that_does_not_decode_is_refused() {
    let step = told(session().step(incoming(1, Kind::Request, 0, &[0xff; 5])));
    assert!(step.starts_with("answer 1 INVALID_ARGUMENT unmarshal request: "), "{step}");
}

#[test]
fn an_oversized_frame_exhausts_its_own_stream_only() {
    let length = MAX_PAYLOAD as u32 + 1;
    let oversized = |stream_id, kind| Incoming::Oversized { stream_id, kind, length };
    let said = "RESOURCE_EXHAUSTED message length 4194305 exceeds maximum message size of 4194304";
    check(&[
        (oversized(1, Kind::Request), &format!("answer 1 {said}")),
        (open(1, "Echo", 0, &[]), &format!("answer 1 {USED}")),
        (oversized(1, Kind::Request), &format!("answer 1 {USED}")),
        (open(3, "Mirror", FLAG_REMOTE_OPEN, &[]), "open 3 [] None true"),
        (oversized(3, Kind::Data), &format!("abort 3 {said}")),
        (incoming(3, Kind::Data, 0, b"x"), "ignore"),
        (oversized(3, Kind::Data), "ignore"),
        (oversized(5, Kind::Data), &format!("answer 5 {said}")),
        (oversized(8, Kind::Data), &format!("answer 8 {EVEN}")),
    ]);
}

/// ttrpc-rust#221: Go opens with REMOTE_OPEN, no payload and without NO_DATA.
#[test]
fn a_stream_opened_by_go_has_no_phantom_message() {
    check(&[
        (open(1, "Mirror", FLAG_REMOTE_OPEN, &[]), "open 1 [] None true"),
        (open(3, "Mirror", FLAG_REMOTE_OPEN | FLAG_NO_DATA, &[]), "open 3 [] None true"),
        (open(5, "Mirror", FLAG_REMOTE_OPEN, &[1]), "open 5 [] Some([1]) true"),
    ]);
}

#[test]
fn a_server_stream_gets_its_request_inline_even_if_empty() {
    check(&[
        (open(1, "Count", FLAG_REMOTE_CLOSED, &[]), "open 1 [] None false"),
        (open(3, "Count", FLAG_REMOTE_CLOSED, &[9]), "open 3 [9] None false"),
        (incoming(3, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, &[]), "ignore"),
        (incoming(3, Kind::Data, 0, &[]), &format!("abort 3 {INACTIVE}")),
    ]);
}

/// ttrpc-rust#208: an empty payload is a message.
#[test]
fn data_follows_its_flags() {
    check(&[
        (incoming(1, Kind::Data, 0, b"x"), &format!("answer 1 {INACTIVE}")),
        (open(1, "Mirror", FLAG_REMOTE_OPEN, &[]), "open 1 [] None true"),
        (incoming(1, Kind::Data, 0, &[]), "data 1 Some([]) false"),
        (incoming(1, Kind::Data, FLAG_NO_DATA, b"x"), "data 1 None false"),
        (incoming(1, Kind::Data, FLAG_REMOTE_CLOSED, &[8]), "data 1 Some([8]) true"),
        (incoming(1, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, &[]), "ignore"),
    ]);
}

/// A client's grant or close may cross the end of its stream, and Go's client complains of an answer to it.
#[test]
fn a_stream_that_ended_is_not_answered_again() {
    let mut session = session();
    session.step(open(1, "Mirror", FLAG_REMOTE_OPEN, &[]));
    session.ended(1);
    assert_eq!(told(session.step(incoming(1, Kind::Data, 0, b"x"))), "ignore");
    assert_eq!(told(session.step(incoming(1, Kind::Data, FLAG_REMOTE_CLOSED | FLAG_NO_DATA, &[]))), "ignore");
    assert_eq!(told(session.step(incoming(3, Kind::Data, 0, b"x"))), format!("answer 3 {INACTIVE}"));
}

#[test]
fn data_for_an_unary_call_is_no_second_call() {
    check(&[(open(1, "Echo", 0, &[]), "call 1 Echo"), (incoming(1, Kind::Data, 0, b"x"), "ignore")]);
}

fn any_incoming() -> impl Strategy<Value = Incoming> {
    let kind =
        prop_oneof![Just(Kind::Request), Just(Kind::Response), Just(Kind::Data), Just(Kind::Unknown(0))];
    let method = prop_oneof![Just("Echo"), Just("Mirror"), Just("Count"), Just("None")];
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        method.prop_map(|method| request(SERVICE, method, b"p", Duration::ZERO)),
    ];
    (0u32..12, kind, 0u8..8, payload, proptest::bool::weighted(0.1)).prop_map(
        |(stream_id, kind, flags, payload, oversized)| match oversized {
            true => Incoming::Oversized { stream_id, kind, length: u32::MAX },
            false => Incoming::Frame(Frame { stream_id, kind, flags, payload }),
        },
    )
}

proptest! {
    /// Total: any sequence of frames has a step each; answers go to the frame's own stream, and each id is used once.
    #[test]
    fn every_frame_has_a_step(sequence in proptest::collection::vec(any_incoming(), 0..40)) {
        let mut session = session();
        let mut begun = 0;
        for incoming in sequence {
            let id = match &incoming {
                Incoming::Frame(frame) => frame.stream_id,
                Incoming::Oversized { stream_id, .. } => *stream_id,
            };
            match session.step(incoming) {
                Step::Ignore => {}
                Step::Answer { stream_id, .. } | Step::Abort { stream_id, .. } | Step::Data { stream_id, .. } => {
                    prop_assert_eq!(stream_id, id);
                }
                Step::Call { stream_id, .. } => {
                    prop_assert!(stream_id > begun && stream_id == id && id % 2 == 1);
                    begun = stream_id;
                }
                Step::Open(opening) => {
                    prop_assert!(opening.stream_id > begun && opening.stream_id == id && id % 2 == 1);
                    begun = opening.stream_id;
                }
            }
        }
    }
}
