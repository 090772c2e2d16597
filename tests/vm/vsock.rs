//! The loss of the whole vsock device: the guest's listeners outlive it, and so do its containers.

use std::time::Duration;

use vminit_shim::client::{Guest, INIT};
use vminit_shim::spec;

use crate::machine::Machine;

/// For the guest's driver to find a new device.
const BACK: Duration = Duration::from_secs(30);

#[tokio::test]
async fn another_vsock_device_with_another_backend_is_served() {
    let Some(mut machine) = Machine::boot(|config| config.vsock_on_port = true).await else { return };
    machine.start("old", &spec::container(&["/bin/sleep", "1000"])).await;
    for round in 0..2 {
        machine
            .vm
            .replace_vsock()
            .await
            .unwrap_or_else(|e| panic!("{e}; the console:\n{}", machine.console()));
        let guest = Guest::connect(machine.vm.rpc(), machine.vm.stream(), BACK).await;
        machine.guest = guest.unwrap_or_else(|e| panic!("{e}; the console:\n{}", machine.console()));
        let config = spec::container(&["/bin/echo", "here"]);
        let (status, stdout) = machine.run(&format!("new{round}"), &config).await;
        assert_eq!((status, stdout.as_str()), (0, "here\n"), "in round {round}");
    }
    machine.guest.kill("old", INIT, 15).await.expect("it has lived on");
    assert_eq!(machine.remove("old").await, 137);
    machine.power_off().await;
}
