//! Generates messages, clients and servers from the `.proto` files, without protoc.

use std::path::{Path, PathBuf};
use std::{env, fs};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

/// Our own files, then those of other projects that nobody else has generated code for.
const PROTOS: [(&str, &str); 8] = [
    (OURS, "bundle"),
    (OURS, "network"),
    (OURS, "stdio"),
    (OURS, "system"),
    (OURS, "vmevents"),
    (VENDORED, "spinbox"),
    (VENDORED, "streaming"),
    (VENDORED, "transfer"),
];

const OURS: &str = ".";
const VENDORED: &str = "../vendor-protos";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (folder, name) in PROTOS {
        // One folder each: two files of one name would otherwise overwrite each other.
        generate(&absolute(folder).join(name).with_extension("proto"), &out.join(name));
        println!("cargo:rerun-if-changed={folder}/{name}.proto");
    }
    println!("cargo:rerun-if-changed={VENDORED}");
}

/// The parser refuses paths with `..` in them.
fn absolute(folder: &str) -> PathBuf {
    fs::canonicalize(folder).expect("the folders of protos exist")
}

fn generate(proto: &Path, out: &Path) {
    fs::create_dir_all(out).expect("create the output folder");
    Codegen::new()
        .input(proto)
        .include(absolute(OURS))
        .include(absolute(VENDORED))
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false))
        .customize(Customize { async_all: true, ..Default::default() })
        .out_dir(out)
        .run()
        .unwrap_or_else(|e| panic!("generate from {}: {e}", proto.display()));
    for entry in fs::read_dir(out).expect("list the output folder") {
        put_right(&entry.expect("read the output folder").path());
    }
}

/// The generator writes service names in Rust's camel case; on the wire it is this one's own that counts.
const RENAMED: (&str, &str) = ("stdio.v1.StdIo", "stdio.v1.StdIO");

/// `include!` refuses files with inner attributes or inner doc comments (rust-lang/rust#18810).
fn put_right(path: &Path) {
    let text = fs::read_to_string(path).expect("read generated code");
    let kept: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("#!") && !line.starts_with("//!")).collect();
    fs::write(path, kept.join("\n").replace(RENAMED.0, RENAMED.1)).expect("write generated code");
}
