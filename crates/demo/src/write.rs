//! An app that logs into a file, as many do.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use outrigger_runtime::shutdown;

/// How often it writes; how much follows from the rate.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes numbered lines into a file and renames it now and then, as apps rotate their logs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file.
    file: PathBuf,
    /// How many lines. Default: until it is told to stop.
    #[arg(long)]
    lines: Option<u64>,
    /// Lines a second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Rename the file, to FILE.1, FILE.2 and so on, after so many lines.
    #[arg(long, default_value_t = 1000)]
    rotate_every: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (trigger, stop) = shutdown::channel();
    shutdown::on_signal(trigger)?;
    let (mut number, mut file) = (0, None);
    let most = args.lines.unwrap_or(u64::MAX);
    let at_once = (args.rate * 10).div_ceil(1000);
    while number < most && !stop.is_requested() {
        for _ in 0..at_once.min(most - number) {
            if number > 0 && number % args.rotate_every == 0 && file.take().is_some() {
                rotate(&args.file, number / args.rotate_every)?;
            }
            let open = || File::options().create(true).append(true).open(&args.file);
            let file = match &mut file {
                Some(file) => file,
                none => {
                    none.insert(open().with_context(|| format!("failed to open {}", args.file.display()))?)
                }
            };
            writeln!(file, "level=info msg=\"line {number}\" number={number}")?;
            number += 1;
        }
        tokio::time::sleep(PAUSE).await;
    }
    println!("wrote {number} lines");
    Ok(())
}

fn rotate(file: &Path, generation: u64) -> anyhow::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{generation}"));
    fs::rename(file, name).with_context(|| format!("failed to rename {}", file.display()))
}
