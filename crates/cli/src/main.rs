//! The `outrigger` command: parse, run, report.

mod check;
mod document;
mod error;
mod files;
mod inject;
mod report;
mod uninject;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Fastens sidecars to Kubernetes pods.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inject(inject::Args),
    Uninject(uninject::Args),
    Check(check::Args),
    Webhook(Box<outrigger_webhook::Options>),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Inject(args) => inject::run(&args),
        Command::Uninject(args) => uninject::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Webhook(options) => webhook::run(*options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error::report(&error),
    }
}
