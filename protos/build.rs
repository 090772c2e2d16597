//! Generates messages, clients and servers from the `.proto` files, without protoc.

use std::path::{Path, PathBuf};
use std::{env, fs};

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

const PROTOS: [&str; 3] = ["bundle", "system", "vmevents"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in PROTOS {
        // One folder each: two files of one name would otherwise overwrite each other.
        generate(name, &out.join(name));
        println!("cargo:rerun-if-changed={name}.proto");
    }
    println!("cargo:rerun-if-changed=../vendor-protos");
}

fn generate(name: &str, out: &Path) {
    fs::create_dir_all(out).expect("create the output folder");
    Codegen::new()
        .input(format!("{name}.proto"))
        .include(".")
        .include("../vendor-protos")
        .rust_protobuf()
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false))
        .customize(Customize { async_all: true, ..Default::default() })
        .out_dir(out)
        .run()
        .unwrap_or_else(|e| panic!("generate from {name}.proto: {e}"));
    for entry in fs::read_dir(out).expect("list the output folder") {
        strip_inner_attributes(&entry.expect("read the output folder").path());
    }
}

/// `include!` refuses files with inner attributes or inner doc comments (rust-lang/rust#18810).
fn strip_inner_attributes(path: &Path) {
    let text = fs::read_to_string(path).expect("read generated code");
    let kept: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("#!") && !line.starts_with("//!")).collect();
    fs::write(path, kept.join("\n")).expect("write generated code");
}
