//! `outrigger-demo`: an app to put a sidecar beside, and a client to call it with.

mod call;
mod fetch;
mod health;
mod https;
mod log_file;
mod serve;
mod shop;
mod visit;
mod write;

use std::process::ExitCode;

use clap::Parser;

/// An app to put a sidecar beside, and a client to call it with.
#[derive(Debug, Parser)]
#[command(name = "outrigger-demo", version)]
enum Command {
    /// Serve `/`, `/shop/{id}`, `/echo`, `/status/{code}`, `/slow?ms=`, `/bytes/{n}`, `/healthz` and `/count`; `PUT /healthz/down` and `/up`.
    Serve(serve::Args),
    /// Send an exact number of requests, and fail unless each got the expected status.
    Fetch(fetch::Args),
    /// Visit the pages of the shop, so many a second, until told to stop.
    Visit(visit::Args),
    /// Write numbered lines into a file that is rotated, until told to stop or all are written.
    Write(write::Args),
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("outrigger-demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Serve(args) => runtime.block_on(serve::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Visit(args) => runtime.block_on(visit::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Write(args) => runtime.block_on(write::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Fetch(args) => runtime.block_on(fetch::run(args)),
    }
}
