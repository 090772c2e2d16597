//! `vminit-demo`: boots a microVM and shows a container's life in it, as it happens. Ends with status 0 only if all of
//! it was as expected. It takes `vmlinuz`, `initrd.img`, `vhost-device-vsock` and `rootfs.ext4` from the folder that
//! `VMINITD_BUILD` names, else from `build`.

mod error;
mod screen;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use screen::Screen;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let build = PathBuf::from(std::env::var_os("VMINITD_BUILD").unwrap_or_else(|| "build".into()));
    let screen = Screen::new();
    match story::tell(&build, &screen).await {
        Ok(()) => {
            screen.good("all of it was as expected");
            ExitCode::SUCCESS
        }
        Err(e) => {
            screen.bad(&format!("the demo failed: {}", error::chain(&e)));
            ExitCode::FAILURE
        }
    }
}
