//! That no number can do harm.

use super::*;
use crate::config::value::Kind;
use crate::wire::frame::MAX_PAYLOAD;

#[test]
fn the_defaults_are_those_of_the_design() {
    let bounds = Bounds::default();
    let waits = [bounds.io_drain, bounds.delete_drain, bounds.delete_margin, bounds.closeio_idle];
    assert_eq!(waits.map(|wait| wait.as_millis()), [500, 10_000, 2_000, 100]);
    let waits = [bounds.stream_handshake, bounds.stream_unclaimed, bounds.device_wait, bounds.freeze_max];
    assert_eq!(waits.map(|wait| wait.as_millis()), [5_000, 60_000, 5_000, 60_000]);
    let runc = [bounds.runc_create, bounds.runc_change, bounds.runc_query, bounds.runc_checkpoint];
    assert_eq!(runc.map(|wait| wait.as_secs()), [60, 30, 10, 600]);
    let counts = [bounds.event_replay, bounds.requests_in_flight, bounds.unread_bytes];
    assert_eq!((counts, bounds.nofile), ([4_096, 64, 8 << 20], 65_536));
}

#[test]
fn a_number_outside_its_bounds_is_refused_in_every_source() {
    for key in Key::all() {
        let Kind::Number { min, max } = key.kind() else { continue };
        let name = key.name();
        let below = min.checked_sub(1).map(|number| number.to_string());
        let above = [max + 1, u64::MAX].map(|number| number.to_string());
        let never = ["-1", "1e99", "", "18446744073709551616", "0x10", "1.5"].map(str::to_owned);
        for value in above.into_iter().chain(never).chain(below) {
            let rig = Rig::new()
                .cmdline(&format!("vminitd.{name}={value}"))
                .file(format!("{{\"{name}\": \"{value}\"}}"));
            let (config, problems) = rig.pid1(&format!("-{name}={value}"));
            assert_eq!((problems.len(), config), (3, Rig::new().pid1("").0), "{name}={value}");
        }
    }
}

/// Adding any wait to the clock is what panics if it is too long.
#[test]
fn the_largest_numbers_are_no_overflow() {
    let words = Key::all().filter_map(|key| match key.kind() {
        Kind::Number { max, .. } => Some(format!("-{}={max}", key.name())),
        _ => None,
    });
    let words = words.collect::<Vec<_>>().join(" ");
    let (config, _) = Rig::new().pid1(&words);
    let bounds = config.bounds;
    let waits =
        [bounds.delete_drain, bounds.stream_unclaimed, bounds.runc_checkpoint, config.supervisor.delay];
    for wait in waits {
        assert!(std::time::Instant::now().checked_add(wait * 2).is_some());
    }
    assert!(bounds.unread_bytes < tokio::sync::Semaphore::MAX_PERMITS);
    assert!(u32::try_from(bounds.unread_bytes).is_ok(), "permits are counted in u32");
}

#[test]
fn the_largest_message_always_fits() {
    let Kind::Number { min, .. } = Key::UnreadBytes.kind() else { panic!("it is a number") };
    assert!(min >= MAX_PAYLOAD as u64);
}

#[test]
fn texts_are_held_to_what_the_kernel_takes() {
    for (key, good, bad) in [
        ("hostname", &["a", "vm-1.example"][..], &["", "-a", "a-", "a..b", "a_b", ".a", "a b"][..]),
        ("sysctls", &["", "a=1", "a.b/c=", "a=1,b=2"], &["a", "=1", "../a=1", "a..b=1", "/a=1", "a b=1"]),
        ("devices", &["", "/dev/vda", "serial:x,UUID=y"], &[",", "/dev/a,,/dev/b", "vda"]),
        ("extras_disk", &["0", "65535", "serial:x", "label:x", "/dev/vdb"], &["", "65536", "-1", "x"]),
        ("supervisor", &["/x"], &["", "x", "/x\0y", "/x\ny"]),
        ("report_version", &["dev"], &["", "a b", "\u{fffd}"]),
    ] {
        let key = Key::named(key).expect("it is a key");
        let read = |value: &&str| key.kind().read(&Given::Text((*value).to_owned())).is_some();
        assert_eq!(good.iter().find(|value| !read(value)), None, "{}", key.name());
        assert_eq!(bad.iter().find(|value| read(value)), None, "{}", key.name());
    }
    let long = "a".repeat(65);
    assert!(Key::Hostname.kind().read(&Given::Text(long)).is_none());
    let many = vec!["x".to_owned(); 65];
    assert!(Key::Devices.kind().read(&Given::Items(many)).is_none());
}
