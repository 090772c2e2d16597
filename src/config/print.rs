//! What the settings came to, for a person or a script. Pure.

use std::fmt::Write as _;

use super::key::Key;
use super::settings::Settings;
use super::Problem;

/// One line for each setting, `key=value (source)`, and one for each problem, beginning with `# `.
pub(super) fn report(settings: &Settings, problems: &[Problem]) -> String {
    let mut text = String::new();
    for key in Key::all().filter(|key| key.is_setting()) {
        let (source, value) = settings.shown(key);
        // Writing to a String cannot fail.
        let _ = match value {
            Some(value) => writeln!(text, "{}={value} ({source})", key.name()),
            None => writeln!(text, "{}= ({source})", key.name()),
        };
    }
    for problem in problems {
        let _ = writeln!(text, "# {problem}");
    }
    text
}

/// What `vminitd` says to someone who called it wrongly.
pub(super) fn usage(problem: &Problem) -> String {
    let mut text = format!("vminitd: {problem}\n\nusage: vminitd [flags]\n");
    for key in Key::all() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  -{}\n\t{}", key.name().replace('_', "-"), key.help());
    }
    text
}
