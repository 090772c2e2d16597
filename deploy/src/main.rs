//! The command line of the image builder: reads arguments, does one of its jobs, says what went wrong.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use lexopt::prelude::*;
use vminitd_deploy::{bzimage, initrd, oci, spinbox};

const USAGE: &str = "usage: vminitd-deploy vmlinux BZIMAGE OUT
       vminitd-deploy initrd --init FILE --runc FILE --modules FOLDER --out FILE
           [--program PATH=FILE]... [--libraries FOLDER]... [--module NAME]...
       vminitd-deploy spinbox --init FILE --runtime PATH=FILE --out FILE [--libraries FOLDER]...
       vminitd-deploy modules --modules FOLDER --out FILE
       vminitd-deploy image --rootfs FOLDER --name NAME --out FILE";

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
    #[error(transparent)]
    Image(#[from] oci::ImageError),
}

enum Command {
    Vmlinux { bzimage: PathBuf, out: PathBuf },
    Initrd { inputs: initrd::Inputs, out: PathBuf },
    Spinbox { inputs: spinbox::Inputs, out: PathBuf },
    Modules { folder: PathBuf, out: PathBuf },
    Image { rootfs: PathBuf, name: oci::Name, out: PathBuf },
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
        Command::Initrd { inputs, out } => Ok(initrd::write(&initrd::build(&inputs)?, &out)?),
        Command::Spinbox { inputs, out } => Ok(initrd::write(&spinbox::build(&inputs)?, &out)?),
        Command::Modules { folder, out } => Ok(initrd::write(&initrd::modules_alone(&folder)?, &out)?),
        Command::Image { rootfs, name, out } => Ok(initrd::write(&oci::build(&rootfs, &name)?, &out)?),
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
        Some("initrd") => parse_files(args)?.initrd(),
        Some("spinbox") => parse_files(args)?.spinbox(),
        Some("modules") => parse_files(args)?.modules(),
        Some("image") => parse_files(args)?.image(),
        _ => Err("the command is none of vmlinux, initrd, spinbox, modules, image".into()),
    }
}

fn parse_vmlinux(mut args: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let (bzimage, out) = (args.value()?.into(), args.value()?.into());
    match args.next()? {
        Some(extra) => Err(extra.unexpected()),
        None => Ok(Command::Vmlinux { bzimage, out }),
    }
}

/// The files that a command was given.
#[derive(Default)]
struct Files {
    init: Option<PathBuf>,
    runc: Option<PathBuf>,
    runtime: Option<(String, PathBuf)>,
    modules: Option<PathBuf>,
    rootfs: Option<PathBuf>,
    name: Option<oci::Name>,
    out: Option<PathBuf>,
    programs: Vec<(String, PathBuf)>,
    libraries: Vec<PathBuf>,
    further_modules: Vec<String>,
}

fn parse_files(mut args: lexopt::Parser) -> Result<Files, lexopt::Error> {
    let mut files = Files::default();
    while let Some(arg) = args.next()? {
        match arg {
            Long("init") => files.init = Some(args.value()?.into()),
            Long("runc") => files.runc = Some(args.value()?.into()),
            Long("runtime") => files.runtime = Some(args.value()?.parse_with(placed_program)?),
            Long("modules") => files.modules = Some(args.value()?.into()),
            Long("rootfs") => files.rootfs = Some(args.value()?.into()),
            Long("name") => files.name = Some(args.value()?.parse()?),
            Long("out") => files.out = Some(args.value()?.into()),
            Long("program") => files.programs.push(args.value()?.parse_with(placed_program)?),
            Long("libraries") => files.libraries.push(args.value()?.into()),
            Long("module") => files.further_modules.push(args.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(files)
}

impl Files {
    fn initrd(self) -> Result<Command, lexopt::Error> {
        let Files { programs, libraries, further_modules, .. } = self;
        match (self.init, self.runc, self.modules, self.out) {
            (Some(init), Some(runc), Some(modules), Some(out)) => {
                let inputs = initrd::Inputs { init, runc, programs, libraries, modules, further_modules };
                Ok(Command::Initrd { inputs, out })
            }
            _ => Err("initrd needs --init, --runc, --modules and --out".into()),
        }
    }

    fn spinbox(self) -> Result<Command, lexopt::Error> {
        match (self.init, self.runtime, self.out) {
            (Some(init), Some(runtime), Some(out)) => {
                let inputs = spinbox::Inputs { init, runtime, libraries: self.libraries };
                Ok(Command::Spinbox { inputs, out })
            }
            _ => Err("spinbox needs --init, --runtime and --out".into()),
        }
    }

    fn modules(self) -> Result<Command, lexopt::Error> {
        match (self.modules, self.out) {
            (Some(folder), Some(out)) => Ok(Command::Modules { folder, out }),
            _ => Err("modules needs --modules and --out".into()),
        }
    }

    fn image(self) -> Result<Command, lexopt::Error> {
        match (self.rootfs, self.name, self.out) {
            (Some(rootfs), Some(name), Some(out)) => Ok(Command::Image { rootfs, name, out }),
            _ => Err("image needs --rootfs, --name and --out".into()),
        }
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
