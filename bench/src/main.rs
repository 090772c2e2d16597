//! `vminitd-bench`: measures the daemon against floors of the same run and prints a table. Ends with status 1 when a
//! budget was not met. `vminitd-bench stdio [MIB [RUNS]]`; it takes the image from the folder that `VMINITD_BUILD`
//! names, else from `build`, and the daemon for Unix sockets from `VMINITD_BIN`.

mod error;
mod stage;
mod stdio;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use error::BenchError;
use stage::Stage;
use stdio::Volume;
use table::HEAD;

const USAGE: &str = "vminitd-bench stdio [MIB [RUNS]]";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vminitd-bench: cannot {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<bool, BenchError> {
    let ["stdio", numbers @ ..] = words else { return Err(usage()) };
    let volume = match numbers {
        [] => volume("64", "7")?,
        [mib] => volume(mib, "7")?,
        [mib, runs] => volume(mib, runs)?,
        _ => return Err(usage()),
    };
    let build = PathBuf::from(std::env::var_os("VMINITD_BUILD").unwrap_or_else(|| "build".into()));
    println!("{} MiB in blocks of 64 KiB, {} runs\n{HEAD}", volume.bytes >> 20, volume.runs);
    let mut met = true;
    for over_vsock in [false, true] {
        let stage = if over_vsock { Stage::vsock(&build).await? } else { Stage::unix(&build).await? };
        for row in stdio::measure(&stage, volume).await? {
            println!("{row}");
            met &= row.is_met();
        }
    }
    Ok(met)
}

fn volume(mib: &str, runs: &str) -> Result<Volume, BenchError> {
    let number = |word: &str| word.parse::<usize>().ok().filter(|n| (1..=4096).contains(n)).ok_or_else(usage);
    Ok(Volume { bytes: number(mib)? << 20, runs: number(runs)? })
}

fn usage() -> BenchError {
    BenchError::Usage(USAGE.to_owned())
}
