//! What containerd writes to the standard input of `start`, told apart. Owns the bound on it; never acts on it.

use std::io::{self, IsTerminal, Read};

use protobuf::well_known_types::any::Any;
use protobuf::Message;
use vminitd_api::containerd::bootstrap_api::BootstrapParams;

use super::{Call, StartError};

/// Bytes that are read at most. Parameters and options are some hundred bytes, and their extensions are to stay far
/// below the 4 MiB of a ttrpc message.
const STDIN_MAX: u64 = 1 << 20;

/// What `start` was given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// containerd up to 2.2, without runtime options.
    Nothing,
    /// containerd up to 2.2, with runtime options. They come again with Task.Create, where they are read.
    Options(Any),
    /// containerd from 2.3 on; it expects an answer of the same kind.
    Bootstrap(Box<BootstrapParams>),
}

/// Reads the standard input to its end; nothing if a person sits at it. Blocks while containerd holds it open.
///
/// # Errors
/// `Stdin`, and `StdinTooLong` past [`STDIN_MAX`].
pub(super) fn read() -> Result<Vec<u8>, StartError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(Vec::new());
    }
    read_from(stdin.lock())
}

fn read_from(input: impl Read) -> Result<Vec<u8>, StartError> {
    let mut bytes = Vec::new();
    input.take(STDIN_MAX + 1).read_to_end(&mut bytes).map_err(StartError::Stdin)?;
    if bytes.len() as u64 > STDIN_MAX {
        return Err(StartError::StdinTooLong(STDIN_MAX));
    }
    Ok(bytes)
}

impl Input {
    /// Tells the forms apart as containerd's own shims do: parameters name the task and the namespace of the command
    /// line in their first two fields, where options have a type URL and any bytes.
    ///
    /// # Errors
    /// `StdinUnknown` for what is neither.
    pub(super) fn parse(bytes: &[u8], call: &Call) -> Result<Input, StartError> {
        if bytes.is_empty() {
            return Ok(Input::Nothing);
        }
        match BootstrapParams::parse_from_bytes(bytes) {
            Ok(params) if params.instance_id == call.id && params.namespace == call.namespace => {
                Ok(Input::Bootstrap(Box::new(params)))
            }
            _ => Any::parse_from_bytes(bytes).map(Input::Options).map_err(StartError::StdinUnknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let (namespace, id) = ("default".to_string(), "r1".to_string());
        Call { namespace, id, address: String::new(), bundle: None, debug: false }
    }

    /// The bytes of containerd 2.4 for the task `r1`, at log level debug: the enum's -4 takes ten bytes.
    fn params_of_2_4() -> Vec<u8> {
        let mut bytes = b"\x0a\x02r1\x12\x07default\x18\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01".to_vec();
        bytes.extend(b"\x22\x06v2.4.0\x2a\x11/run/c.sock.ttrpc\x32\x0b/run/c.sock");
        bytes
    }

    #[test]
    fn an_empty_input_is_nothing() {
        assert_eq!(Input::parse(b"", &call()).unwrap(), Input::Nothing);
    }

    #[test]
    fn parameters_are_known_by_task_and_namespace() {
        let Input::Bootstrap(params) = Input::parse(&params_of_2_4(), &call()).unwrap() else {
            panic!("these are parameters")
        };
        assert_eq!(params.log_level.value(), -4);
        assert_eq!(params.containerd_version, "v2.4.0");
        assert_eq!(params.containerd_ttrpc_address, "/run/c.sock.ttrpc");
    }

    #[test]
    fn options_are_known_by_naming_no_task() {
        let options = Any { type_url: "containerd.runc.v1.Options".into(), ..Default::default() };
        let binary = Any { value: vec![0x28, 0x01, 0xff], ..options.clone() };
        for any in [options, binary] {
            let bytes = any.write_to_bytes().unwrap();
            assert_eq!(Input::parse(&bytes, &call()).unwrap(), Input::Options(any));
        }
        let other = Call { id: "r2".into(), ..call() };
        assert!(
            matches!(Input::parse(&params_of_2_4(), &other), Ok(Input::Options(any)) if any.type_url == "r1")
        );
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert!(matches!(Input::parse(b"{\"id\":1}", &call()), Err(StartError::StdinUnknown(_))));
    }

    #[test]
    fn an_input_without_end_is_refused() {
        assert!(matches!(read_from(io::repeat(b'x')), Err(StartError::StdinTooLong(STDIN_MAX))));
    }
}
