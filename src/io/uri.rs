//! The URIs by which a request says where stdin, stdout and stderr go, and the names of streams in them.

use std::fmt;
use std::path::PathBuf;

/// The longest id of a stream in bytes. The ids of hosts are far shorter: that of a container, a time and a few words.
pub const ID_MAX: usize = 4096;

/// How streams are named, on the stream port and in URIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamIds {
    /// By a number of 32 bits.
    Numeric,
    /// By a text of 1 to [`ID_MAX`] bytes.
    Named,
}

/// Names a stream that the host has opened on the stream port. A number is kept as its decimal text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId(String);

impl StreamIds {
    /// Reads an id as it stands in a URI; `None` if there can be no such stream.
    pub fn parse(self, text: &str) -> Option<StreamId> {
        match self {
            StreamIds::Numeric if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok().map(StreamId::number)
            }
            StreamIds::Numeric => None,
            StreamIds::Named => (1..=ID_MAX).contains(&text.len()).then(|| StreamId(text.to_owned())),
        }
    }
}

impl StreamId {
    pub fn number(id: u32) -> StreamId {
        StreamId(id.to_string())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where one of the three goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uri {
    /// Nowhere: `/dev/null`.
    Null,
    /// To a stream of the stream port.
    Stream(StreamId),
    /// To a file of the guest: output is appended to it, stdin is read from it.
    File(PathBuf),
    /// Kept for the StdIO service.
    Served,
}

/// Why a URI cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("malformed stdio URI {0:?}")]
    Malformed(String),
    #[error("unsupported stdio scheme {0:?}")]
    Unsupported(String),
}

impl Uri {
    /// Parses `stream://<id>`, `file://<absolute path>`, `rpcio://<anything>`, or the empty string.
    pub fn parse(text: &str, ids: StreamIds) -> Result<Uri, UriError> {
        if text.is_empty() {
            return Ok(Uri::Null);
        }
        let parsed = match text.split_once("://") {
            Some(("stream", id)) => ids.parse(id).map(Uri::Stream),
            Some(("file", path)) => absolute(path).map(Uri::File),
            // What follows names the process once more; the request says it already.
            Some(("rpcio", _)) => Some(Uri::Served),
            Some(("", _)) => None,
            Some((scheme, _)) => return Err(UriError::Unsupported(scheme.to_owned())),
            // containerd's own shim takes a bare path for a FIFO; there is none between a guest and its host.
            None => return Err(UriError::Unsupported("fifo".to_owned())),
        };
        parsed.ok_or_else(|| UriError::Malformed(text.to_owned()))
    }
}

/// The path of a `file` URI. containerd makes these with Go's `url.URL`, so `%` begins an escape (RFC 3986, 2.1), and
/// `?` and `#` would begin what is no path. A path that climbs is refused: no host writes one.
fn absolute(path: &str) -> Option<PathBuf> {
    let path = unescape(path)?;
    let names_a_file = path.starts_with('/') && !path.ends_with('/');
    let climbs = path.split('/').any(|part| part == "..");
    (names_a_file && !climbs && !path.contains('\0')).then(|| PathBuf::from(path))
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'?' | b'#' => return None,
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use StreamIds::{Named, Numeric};

    fn check(text: &str, ids: StreamIds, expected: Option<Uri>) {
        let expected = expected.ok_or_else(|| UriError::Malformed(text.to_owned()));
        assert_eq!(Uri::parse(text, ids), expected, "{text:?}");
    }

    #[test]
    fn numeric_streams_are_decimal_numbers_of_32_bits() {
        check("stream://0", Numeric, Some(Uri::Stream(StreamId::number(0))));
        check("stream://007", Numeric, Some(Uri::Stream(StreamId::number(7))));
        check("stream://4294967295", Numeric, Some(Uri::Stream(StreamId::number(u32::MAX))));
        for bad in ["", "4294967296", "+1", "-1", "1/2", "x"] {
            check(&format!("stream://{bad}"), Numeric, None);
        }
        check("://1", Numeric, None);
    }

    #[test]
    fn named_streams_are_any_text_of_a_length() {
        for name in ["c-stdin-1700000000-AbC_", "7", "../%41 é://?"] {
            check(&format!("stream://{name}"), Named, Some(Uri::Stream(StreamId(name.to_owned()))));
        }
        check("stream://", Named, None);
        check(&format!("stream://{}", "x".repeat(ID_MAX + 1)), Named, None);
        assert!(Uri::parse(&format!("stream://{}", "x".repeat(ID_MAX)), Named).is_ok());
    }

    #[test]
    fn files_are_absolute_paths_that_do_not_climb() {
        let file = |path: &str| Some(Uri::File(PathBuf::from(path)));
        check("file:///var/log/a..b", Named, file("/var/log/a..b"));
        check("file:///a%20b%25%3F", Numeric, file("/a b%?"));
        for bad in [
            "a",
            "",
            "/",
            "/a/",
            "/../a",
            "/a/..",
            "/a/%2e%2e/b",
            "/a%00",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%ff",
            "/a?b",
            "/a#b",
        ] {
            check(&format!("file://{bad}"), Numeric, None);
        }
    }

    #[test]
    fn nothing_is_null_and_unknown_schemes_are_unsupported() {
        check("", Named, Some(Uri::Null));
        check("rpcio://", Named, Some(Uri::Served));
        check("rpcio://container/exec", Numeric, Some(Uri::Served));
        for (text, scheme) in
            [("binary:///bin/logger", "binary"), ("/run/fifo", "fifo"), ("FILE:///a", "FILE")]
        {
            assert_eq!(Uri::parse(text, Numeric), Err(UriError::Unsupported(scheme.to_owned())));
        }
    }
}
