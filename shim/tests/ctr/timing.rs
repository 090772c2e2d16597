//! Where the time from `ctr run` to the first output goes. Prints it; owns no opinion on how long it should be.

use std::process::Stdio;
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::alone::alone;
use crate::until::until;
use crate::world::{Said, PATIENCE, SOON};

/// What the shim logs of each task it has started.
const MARK: &str = " timing id=\"c1\" ";

/// The parts that follow each other, as the shim names them, and as they are printed.
const PARTS: [(&str, &str); 5] = [
    ("host_ms", "mounts, namespace and holder"),
    ("qemu_ms", "QEMU"),
    ("kernel_ms", "kernel"),
    ("vminitd_ms", "vminitd"),
    ("runc_ms", "runc"),
];

#[test]
fn the_time_to_the_first_output_is_accounted_for() {
    alone(async |world| {
        if !world.has_machines() {
            return;
        }
        let mut ctr = world.command(&world.run(&["--rm"], "c1", &["echo", "first"]));
        let begun = Instant::now();
        let mut ctr = ctr.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("run ctr");
        let mut lines = BufReader::new(ctr.stdout.take().expect("it is a pipe")).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("the container says something");
        let total = begun.elapsed().as_millis();
        assert_eq!(line.expect("read from ctr").as_deref(), Some("first"));
        ctr.wait_with_output().await.expect("wait for ctr").succeeds();

        let logged = async || {
            let log = world.log();
            let line = log.lines().find_map(|line| line.split_once(MARK));
            line.map(|(_, fields)| fields.to_owned()).ok_or("the shim has logged no times".to_owned())
        };
        let fields = until(SOON, logged).await;
        let parts = PARTS.map(|(name, part)| (part, value(&fields, name)));
        let known: u128 = parts.iter().map(|(_, ms)| ms).sum();
        assert!(known <= total, "{known} ms are logged of {total} ms: {fields}");
        assert!(parts.iter().skip(1).all(|(_, ms)| *ms > 0), "a part took no time: {fields}");
        eprintln!("from ctr run to the first output: {total} ms");
        for (part, ms) in parts {
            eprintln!("  {part}: {ms} ms");
        }
        eprintln!("  ctr, containerd, stdio: {} ms", total - known);
    });
}

/// The number in `name=number`.
fn value(fields: &str, name: &str) -> u128 {
    let pairs = fields.split(' ').filter_map(|field| field.split_once('='));
    let number = pairs.into_iter().find(|(key, _)| *key == name).map(|(_, number)| number.trim().parse());
    number.unwrap_or_else(|| panic!("{name} is not logged: {fields}")).expect("it is a number")
}
