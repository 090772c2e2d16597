//! `vminitd-bench`: measures the daemon against floors of the same run and prints a table. Ends with status 1 when a
//! budget was not met, and with 2 when something could not be measured. It takes the image from the folder that
//! `VMINITD_BUILD` names, else from `build`, and the daemon for Unix sockets from `VMINITD_BIN`.

mod boot;
mod error;
mod events;
mod figure;
mod json;
mod load;
mod memory;
mod raw;
mod rpc;
mod runc;
mod size;
mod stage;
mod stdio;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use error::BenchError;
use figure::Figure;
use table::{Line, HEAD};

/// What can be measured.
const PARTS: [&str; 8] = ["size", "boot", "rpc", "events", "runc", "stdio", "memory", "memory-long"];

/// So many of them are measured when none is named. How often each measures its turns is as often as leaves all of these
/// within ten minutes on two processors; odd, so that a median is a sample.
const USUAL: usize = 7;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vminitd-bench: cannot {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every budget was met.
async fn run(words: &[&str]) -> Result<bool, BenchError> {
    let (json, parts) = match words {
        ["--json", file, parts @ ..] => (Some(Path::new(*file)), parts),
        parts => (None, parts),
    };
    let parts = if parts.is_empty() { &PARTS[..USUAL] } else { parts };
    if !parts.iter().all(|part| PARTS.contains(part)) {
        return Err(usage());
    }
    let build = PathBuf::from(std::env::var_os("VMINITD_BUILD").unwrap_or_else(|| "build".into()));
    println!("{HEAD}");
    let mut measured = Vec::new();
    for part in parts {
        let (part, figures) = measure(part, &build).await?;
        println!("{part}");
        for figure in &figures {
            println!("  {}", Line(figure));
        }
        measured.push((part, figures));
    }
    if let Some(file) = json {
        let text = format!("{:#}\n", json::document(&measured));
        fs::write(file, text).map_err(|source| BenchError::File { path: file.to_owned(), source })?;
    }
    let mut verdicts = measured.iter().flat_map(|(_, figures)| figures).filter_map(Figure::is_met);
    Ok(verdicts.all(|met| met))
}

/// One part, with its heading.
async fn measure(part: &str, build: &Path) -> Result<(&'static str, Vec<Figure>), BenchError> {
    Ok(match part {
        "size" => ("size", size::measure(build)?),
        "boot" => ("boot", boot::measure(build).await?),
        "rpc" => ("rpc", rpc::measure(build).await?),
        "events" => ("events", events::measure(build).await?),
        "runc" => ("runc", runc::measure(build).await?),
        "stdio" => ("stdio", stdio::measure(build).await?),
        "memory" => ("memory", memory::measure(build).await?),
        "memory-long" => ("memory-long", memory::long::measure().await?),
        _ => return Err(usage()),
    })
}

fn usage() -> BenchError {
    BenchError::Usage(format!("vminitd-bench [--json FILE] [PART...]; parts: {}", PARTS.join(" ")))
}
