//! Frames: any chunking gives the same ones, and no bytes do harm.

use proptest::prelude::*;

use super::*;
use crate::wire::frame::MAX_PAYLOAD;

fn decode_in_chunks(bytes: &[u8], sizes: &[usize]) -> Vec<Incoming> {
    let mut decoder = Decoder::default();
    let mut found = Vec::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let (mut chunk, later) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        while let Some(incoming) = decoder.decode(&mut chunk) {
            found.push(incoming);
        }
        assert!(chunk.is_empty(), "the decoder takes all it is given");
        rest = later;
    }
    found
}

fn header(length: u32, stream_id: u32, kind: u8) -> Vec<u8> {
    let mut bytes = frame::encode(stream_id, Kind::Unknown(kind), 0, &[]);
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Request), Just(Kind::Response), Just(Kind::Data), (4u8..).prop_map(Kind::Unknown)]
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    let one = (any::<u32>(), kind(), any::<u8>(), payload)
        .prop_map(|(stream_id, kind, flags, payload)| Frame { stream_id, kind, flags, payload });
    proptest::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_frames(
        frames in frames(),
        sizes in proptest::collection::vec(1usize..40, 1..20),
    ) {
        let bytes: Vec<u8> = frames.iter()
            .flat_map(|frame| frame::encode(frame.stream_id, frame.kind, frame.flags, &frame.payload))
            .collect();
        let expected: Vec<Incoming> = frames.into_iter().map(Incoming::Frame).collect();
        prop_assert_eq!(decode_in_chunks(&bytes, &sizes), expected);
    }

    #[test]
    fn random_bytes_never_panic_and_are_never_held_twice(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let mut decoder = Decoder::default();
        let mut input = &bytes[..];
        while decoder.decode(&mut input).is_some() {}
        prop_assert!(input.is_empty());
        prop_assert!(decoder.buffered() <= bytes.len());
    }
}

/// ttrpc-rust#203: the size of a frame is checked before it is believed.
#[test]
fn a_payload_beyond_the_maximum_is_told_at_once_and_skipped() {
    let length = MAX_PAYLOAD as u32 + 1;
    let mut decoder = Decoder::default();
    let bytes = header(length, 5, 1);
    let told = decoder.decode(&mut &bytes[..]);
    assert_eq!(told, Some(Incoming::Oversized { stream_id: 5, kind: Kind::Request, length }));
    let chunk = vec![0; 64 << 10];
    let mut left = length as usize;
    while left > 0 {
        let mut input = &chunk[..left.min(chunk.len())];
        left -= input.len();
        assert_eq!(decoder.decode(&mut input), None);
        assert_eq!(decoder.buffered(), 0, "what is skipped is not kept");
    }
    let mut next = &frame::close(7)[..];
    assert!(matches!(decoder.decode(&mut next), Some(Incoming::Frame(Frame { stream_id: 7, .. }))));
}

/// ttrpc-rust#203.
#[test]
fn a_payload_of_exactly_the_maximum_passes() {
    let bytes = frame::encode(1, Kind::Data, 0, &vec![3; MAX_PAYLOAD]);
    let found = decode_in_chunks(&bytes, &[100_000]);
    assert!(matches!(&found[..], [Incoming::Frame(frame)] if frame.payload.len() == MAX_PAYLOAD));
}

#[test]
fn a_frame_of_length_zero_is_whole_after_its_header() {
    let found = decode_in_chunks(&[0; HEADER_LEN], &[1]);
    let ping = Frame { stream_id: 0, kind: Kind::Unknown(0), flags: 0, payload: Vec::new() };
    assert_eq!(found, [Incoming::Frame(ping)]);
}

#[test]
fn a_truncated_frame_is_no_frame() {
    let bytes = frame::encode(1, Kind::Data, 0, b"half");
    assert_eq!(decode_in_chunks(&bytes[..bytes.len() - 1], &[4]), []);
}

#[test]
fn a_response_too_large_for_a_frame_becomes_a_status() {
    let mut response = Response::new();
    response.payload = vec![0; MAX_PAYLOAD + 1];
    let found = decode_in_chunks(&frame::response(3, &response), &[1000]);
    let [Incoming::Frame(frame)] = &found[..] else { panic!("one frame, not {found:?}") };
    assert_eq!(status_of(frame).code(), Code::RESOURCE_EXHAUSTED);
}
