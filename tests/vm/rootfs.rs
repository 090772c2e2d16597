//! Root file systems put together in the guest.

use vminit_shim::api::containerd::api::Mount;
use vminit_shim::client::Container;
use vminit_shim::spec;

use crate::machine::{root_disk, Machine};

/// The layers of the overlay, the disk with busybox among them.
const LAYERS: usize = 100;

/// The names of a hundred layers do not fit the page that mount(2) takes for options.
#[tokio::test]
async fn an_overlay_of_a_hundred_layers_mounts_and_shows_each_of_them() {
    let Some(machine) = Machine::boot(|_| ()).await else { return };
    let config =
        spec::container(&["/bin/sh", "-c", "ls -d /layer-* | wc -l; touch /written && echo written"]);
    let rootfs = layers();
    let finished = machine.guest.run(Container { id: "layers", config: &config, rootfs: &rootfs }).await;
    let finished = finished.unwrap_or_else(|e| panic!("{e}; the console:\n{}", machine.console()));
    let stderr = String::from_utf8_lossy(&finished.stderr);
    let shown = format!("{}\nwritten\n", LAYERS - 1);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), shown, "{stderr}");
    machine.power_off().await;
}

/// The disk below, a tmpfs for each further layer with one directory in it, a tmpfs for what is written, and the
/// overlay of them all.
fn layers() -> Vec<Mount> {
    let tmpfs = || Mount { type_: "tmpfs".into(), source: "tmpfs".into(), ..Default::default() };
    let mut mounts = vec![root_disk()];
    mounts.extend((1..=LAYERS).map(|_| tmpfs()));
    let mkdir = |path: String| format!("X-containerd.mkdir.path={path}");
    let mut options = vec![
        format!("lowerdir={{{{ overlay {} 0 }}}}", LAYERS - 1),
        format!("upperdir={{{{ mount {LAYERS} }}}}/upper"),
        format!("workdir={{{{ mount {LAYERS} }}}}/work"),
    ];
    options.extend(["upper", "work"].map(|name| mkdir(format!("{{{{ mount {LAYERS} }}}}/{name}"))));
    options.extend((1..LAYERS).map(|n| mkdir(format!("{{{{ mount {n} }}}}/layer-{n}"))));
    mounts.push(Mount {
        type_: "format/mkdir/overlay".into(),
        source: "overlay".into(),
        options,
        ..Default::default()
    });
    mounts
}
