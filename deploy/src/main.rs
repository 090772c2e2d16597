//! The command line of the image builder: reads arguments, does one of its two jobs, says what went wrong.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use lexopt::prelude::*;
use vminitd_deploy::{bzimage, initrd};

const USAGE: &str = "usage: vminitd-deploy vmlinux BZIMAGE OUT
       vminitd-deploy initrd --init FILE --runc FILE --modules FOLDER --out FILE
           [--program PATH=FILE]... [--libraries FOLDER]... [--module NAME]...";

/// Why the command did nothing.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error("understand the arguments: {0}\n{USAGE}")]
    Usage(#[from] lexopt::Error),
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Kernel(#[from] bzimage::BzImageError),
    #[error(transparent)]
    Initrd(#[from] initrd::InitrdError),
}

enum Command {
    Vmlinux { bzimage: PathBuf, out: PathBuf },
    Initrd { inputs: initrd::Inputs, out: PathBuf },
}

fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()).map_err(CommandError::from).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vminitd-deploy: cannot {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Vmlinux { bzimage, out } => extract(&bzimage, &out),
        Command::Initrd { inputs, out } => Ok(initrd::write(&inputs, &out)?),
    }
}

fn extract(bzimage: &Path, out: &Path) -> Result<(), CommandError> {
    let image =
        fs::read(bzimage).map_err(|source| CommandError::Read { path: bzimage.to_owned(), source })?;
    fs::write(out, bzimage::vmlinux(&image)?)
        .map_err(|source| CommandError::Write { path: out.to_owned(), source })
}

fn parse(mut args: lexopt::Parser) -> Result<Command, lexopt::Error> {
    match args.value()?.to_str() {
        Some("vmlinux") => parse_vmlinux(args),
        Some("initrd") => parse_initrd(args),
        _ => Err("the command is neither vmlinux nor initrd".into()),
    }
}

fn parse_vmlinux(mut args: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (bzimage, out) = (args.value()?.into(), args.value()?.into());
    match args.next()? {
        Some(extra) => Err(extra.unexpected()),
        None => Ok(Command::Vmlinux { bzimage, out }),
    }
}

fn parse_initrd(mut args: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let [mut init, mut runc, mut modules, mut out] = [const { None }; 4];
    let mut inputs = initrd::Inputs::default();
    while let Some(arg) = args.next()? {
        let option = match arg {
            Long("init") => &mut init,
            Long("runc") => &mut runc,
            Long("modules") => &mut modules,
            Long("out") => &mut out,
            Long("program") => {
                inputs.programs.push(args.value()?.parse_with(placed_program)?);
                continue;
            }
            Long("libraries") => {
                inputs.libraries.push(args.value()?.into());
                continue;
            }
            Long("module") => {
                inputs.further_modules.push(args.value()?.string()?);
                continue;
            }
            other => return Err(other.unexpected()),
        };
        *option = Some(PathBuf::from(args.value()?));
    }
    match (init, runc, modules, out) {
        (Some(init), Some(runc), Some(modules), Some(out)) => {
            Ok(Command::Initrd { inputs: initrd::Inputs { init, runc, modules, ..inputs }, out })
        }
        _ => Err("initrd needs --init, --runc, --modules and --out".into()),
    }
}

/// A path in the image, and the file that goes there.
fn placed_program(text: &str) -> Result<(String, PathBuf), &'static str> {
    let (at, from) = text.split_once('=').ok_or("it has the form PATH=FILE")?;
    Ok((at.to_owned(), PathBuf::from(from)))
}

/// An error with all its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
