//! The frame of rtnetlink messages (netlink(7)): header, fixed part, attributes. It builds and takes apart bytes; it
//! does no IO and does not know what a message is about. All numbers are in the machine's own order, and everything
//! begins at a multiple of four.

/// Length of `struct nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
const HEADER_LEN: usize = 16;
/// Length of `struct rtattr`: length u16, type u16.
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The high bits of an attribute's type are flags (linux/netlink.h, NLA_TYPE_MASK).
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// Types of messages that are netlink's own (linux/netlink.h).
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;

/// Flags of a message (linux/netlink.h).
pub const NLM_F_REQUEST: u16 = 0x1;
pub const NLM_F_ACK: u16 = 0x4;
pub const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_CREATE: u16 = 0x400;
/// Behind an error there are attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The sentence that goes with a refusal (linux/netlink.h, NLMSGERR_ATTR_MSG).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What was received is no sequence of messages, or a message is shorter than it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed netlink message")]
pub struct Malformed;

/// A message under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request(Vec<u8>);

impl Request {
    /// `fixed` is the part that all messages of this type have, such as `struct rtmsg`.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Request {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        pad(&mut bytes);
        Request(bytes)
    }

    /// Adds flags.
    pub fn flagged(mut self, flags: u16) -> Request {
        let all = flags | u16::from_ne_bytes([self.0[6], self.0[7]]);
        self.0[6..8].copy_from_slice(&all.to_ne_bytes());
        self
    }

    /// Adds an attribute.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Request {
        append_attribute(&mut self.0, kind, value);
        self
    }

    /// The datagram, with the number by which its answer is known.
    pub fn numbered(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// Adds an attribute to attributes. A value longer than its length field can say is our own bug, and is cut.
pub fn append_attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let value = &value[..value.len().min(u16::MAX as usize - ATTRIBUTE_HEADER_LEN)];
    to.extend_from_slice(&((value.len() + ATTRIBUTE_HEADER_LEN) as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    pad(to);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub body: &'a [u8],
}

/// The messages of a datagram. After one that is malformed there is none.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let first = first_message(rest);
        rest = first.map_or(&[], |(_, rest)| rest);
        Some(first.map(|(message, _)| message).ok_or(Malformed))
    })
}

fn first_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let message = Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body: bytes.get(HEADER_LEN..length)?,
    };
    Some((message, after(bytes, length)))
}

impl<'a> Message<'a> {
    /// What an NLMSG_ERROR or NLMSG_DONE says: the error number, zero for success, and the kernel's sentence about it.
    pub fn verdict(&self) -> Result<(i32, Option<&'a str>), Malformed> {
        // The number is negated. An NLMSG_DONE may have no body.
        let errno = match self.kind == NLMSG_DONE && self.body.is_empty() {
            true => 0,
            false => u32_at(self.body, 0).ok_or(Malformed)?.wrapping_neg() as i32,
        };
        let text = |value: &'a [u8]| std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0'));
        let attributes = match (self.kind, self.flags & NLM_F_ACK_TLVS) {
            (_, 0) => &[],
            (NLMSG_DONE, _) => self.body.get(4..).unwrap_or_default(),
            // Behind the number is the header of the request, without its body (NETLINK_CAP_ACK).
            _ => self.body.get(4 + HEADER_LEN..).unwrap_or_default(),
        };
        Ok((errno, attribute(attributes, NLMSGERR_ATTR_MSG).and_then(text)))
    }
}

/// The types and values of attributes. It ends where they make no sense.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u16_at(rest, 0)? as usize;
        let kind = u16_at(rest, 2)? & ATTRIBUTE_TYPE;
        let value = rest.get(ATTRIBUTE_HEADER_LEN..length)?;
        rest = after(rest, length);
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// What follows something of `length` bytes.
fn after(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

pub fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(array_at(bytes, place)?))
}

pub fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(array_at(bytes, place)?))
}

pub fn u64_at(bytes: &[u8], place: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(array_at(bytes, place)?))
}

fn array_at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..place.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(datagram: &[u8]) -> Vec<Result<Message<'_>, Malformed>> {
        messages(datagram).collect()
    }

    #[test]
    fn a_refusal_has_its_number_and_its_sentence() {
        let mut body = (-17_i32).to_ne_bytes().to_vec();
        body.extend([0; HEADER_LEN]);
        append_attribute(&mut body, NLMSGERR_ATTR_MSG, b"it is there\0");
        let error = |flags, body| Message { kind: NLMSG_ERROR, flags, sequence: 1, body };
        assert_eq!(error(NLM_F_ACK_TLVS, &body).verdict(), Ok((17, Some("it is there"))));
        assert_eq!(error(0, &body).verdict(), Ok((17, None)));
        assert_eq!(error(0, &[0; 4]).verdict(), Ok((0, None)));
        assert_eq!(error(0, &[0; 3]).verdict(), Err(Malformed));
    }

    #[test]
    fn a_message_that_is_longer_than_its_datagram_or_shorter_than_its_header_is_malformed() {
        let whole = Request::new(1, 0, b"abcd").numbered(7);
        assert_eq!(parts(&whole[..whole.len() - 1]), [Err(Malformed)]);
        assert_eq!(parts(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [Err(Malformed)]);
        assert_eq!(parts(&[1]), [Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(
            requests in prop::collection::vec(
                (any::<u16>(), any::<u16>(), any::<u32>(), any::<[u8; 8]>(), prop::collection::vec(
                    (0..ATTRIBUTE_TYPE, prop::collection::vec(any::<u8>(), 0..40)), 0..5)), 0..5)
        ) {
            let datagram: Vec<u8> = requests.iter().flat_map(|(kind, flags, sequence, fixed, attributes)| {
                let request = Request::new(*kind, *flags, fixed);
                attributes.iter().fold(request, |r, (kind, value)| r.with(*kind, value)).numbered(*sequence)
            }).collect();
            let read: Vec<_> = messages(&datagram).map(|message| {
                let message = message.expect("well formed");
                let (fixed, rest) = message.body.split_at(8);
                let found = attributes(rest).map(|(kind, value)| (kind, value.to_vec())).collect::<Vec<_>>();
                (message.kind, message.flags, message.sequence, fixed.to_vec(), found)
            }).collect();
            let built: Vec<_> = requests.into_iter().map(|(kind, flags, sequence, fixed, attributes)| {
                (kind, flags | NLM_F_REQUEST, sequence, fixed.to_vec(), attributes)
            }).collect();
            prop_assert_eq!(read, built);
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes).flatten() {
                let _ = message.verdict();
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len() / ATTRIBUTE_HEADER_LEN);
        }
    }
}
