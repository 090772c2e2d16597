//! The URIs by which a request says where stdin, stdout and stderr go.

/// Names a stream that the host has opened on the stream port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where one of the three goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uri {
    /// Nowhere: `/dev/null`.
    Null,
    /// To a stream of the stream port.
    Stream(StreamId),
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
    /// Parses `stream://<decimal u32>`, or the empty string.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        if text.is_empty() {
            return Ok(Uri::Null);
        }
        let malformed = || UriError::Malformed(text.to_owned());
        match text.split_once("://") {
            Some(("stream", id)) if id.bytes().all(|b| b.is_ascii_digit()) => {
                id.parse().map(|id| Uri::Stream(StreamId(id))).map_err(|_| malformed())
            }
            Some(("stream" | "", _)) => Err(malformed()),
            Some((scheme, _)) => Err(UriError::Unsupported(scheme.to_owned())),
            // containerd's own shim takes a bare path for a FIFO; there is none between a guest and its host.
            None => Err(UriError::Unsupported("fifo".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Uri, UriError>) {
        assert_eq!(Uri::parse(text), expected, "{text:?}");
    }

    #[test]
    fn streams_are_decimal_numbers_of_32_bits() {
        check("stream://0", Ok(Uri::Stream(StreamId(0))));
        check("stream://4294967295", Ok(Uri::Stream(StreamId(u32::MAX))));
        for bad in [
            "stream://",
            "stream://4294967296",
            "stream://+1",
            "stream://-1",
            "stream://1/2",
            "stream://x",
            "://1",
        ] {
            check(bad, Err(UriError::Malformed(bad.to_owned())));
        }
    }

    #[test]
    fn nothing_is_null_and_the_rest_is_unsupported() {
        check("", Ok(Uri::Null));
        check("binary:///bin/logger", Err(UriError::Unsupported("binary".to_owned())));
        check("/run/fifo", Err(UriError::Unsupported("fifo".to_owned())));
    }
}
