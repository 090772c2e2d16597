//! Kernel settings that the configuration names.

use super::Boot;

/// Applies them in order. Each that fails is noted by its name, and the others have their turn.
pub(super) fn apply(boot: &mut Boot<'_>) {
    for (name, value) in &boot.machine.sysctls {
        boot.attempt(name, name.write(value));
    }
}
