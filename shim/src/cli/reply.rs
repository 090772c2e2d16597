//! What `start` answers, in the form that the containerd which asked can read (all three were tried with 1.6, 1.7, 2.1
//! and 2.4). Never decides where the socket is.

use std::path::Path;

use protobuf::Message;
use vminitd_api::containerd::bootstrap_api::BootstrapResult;

use super::stdin::Input;
use super::{mounts, Settings, UNIX};

/// The version of the Task API, and the protocol, that a reply with room for them names.
const VERSION: i32 = 3;
const PROTOCOL: &str = "ttrpc";

/// The form of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The address alone. Every containerd reads it, and then speaks version 2 of the Task API.
    Address,
    /// JSON with a version, for containerd from 2.0 on; 1.6 and 1.7 fail on it.
    Json,
    /// Protobuf, for containerd from 2.3 on.
    Bootstrap,
}

impl Form {
    /// containerd 1.7 and 2.0 to 2.2 look alike from here, hence the setting.
    pub(super) fn for_input(input: &Input, settings: &Settings) -> Form {
        match input {
            Input::Bootstrap(_) => Form::Bootstrap,
            Input::Nothing | Input::Options(_) if settings.json_reply => Form::Json,
            Input::Nothing | Input::Options(_) => Form::Address,
        }
    }

    pub(super) fn reply(self, socket: &Path) -> Vec<u8> {
        let address = format!("{UNIX}{}", socket.display());
        let protocol = PROTOCOL.to_string();
        match self {
            Form::Address => address.into_bytes(),
            Form::Json => {
                let reply = serde_json::json!({"version": VERSION, "address": address, "protocol": protocol});
                reply.to_string().into_bytes()
            }
            Form::Bootstrap => {
                let mut result =
                    BootstrapResult { version: VERSION, address, protocol, ..Default::default() };
                mounts::extend(&mut result);
                result.write_to_bytes().expect("the message has no required fields")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_containerd_gets_the_form_it_reads() {
        let plain = Settings { json_reply: false };
        let json = Settings { json_reply: true };
        for (input, settings, form) in [
            (Input::Nothing, &plain, Form::Address),
            (Input::Options(Default::default()), &plain, Form::Address),
            (Input::Nothing, &json, Form::Json),
            (Input::Bootstrap(Default::default()), &plain, Form::Bootstrap),
            (Input::Bootstrap(Default::default()), &json, Form::Bootstrap),
        ] {
            assert_eq!(Form::for_input(&input, settings), form, "{input:?}");
        }
    }

    #[test]
    fn the_forms_hold_the_same_address() {
        let socket = Path::new("/s/x");
        assert_eq!(Form::Address.reply(socket), b"unix:///s/x");
        let json: serde_json::Value = serde_json::from_slice(&Form::Json.reply(socket)).unwrap();
        assert_eq!(json, serde_json::json!({"version": 3, "address": "unix:///s/x", "protocol": "ttrpc"}));
        let bootstrap = Form::Bootstrap.reply(socket);
        assert!(bootstrap.starts_with(b"\x08\x03\x12\x0bunix:///s/x\x1a\x05ttrpc\x32"), "{bootstrap:?}");
    }
}
