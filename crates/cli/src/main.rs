//! The `outrigger` command: parse, run, report.

mod check;
mod cluster;
mod collector;
mod completion;
mod dashboard;
mod document;
mod error;
mod explain;
mod files;
mod flag;
mod hpa;
mod inject;
mod input;
mod installation;
mod judge;
mod output;
mod owner;
mod reach;
mod reconfigure;
mod report;
mod runtime;
mod strangers;
mod tap;
mod target;
mod top;
mod uninject;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

/// An admission is mostly a pod taken apart into its values and put together again: with glibc's allocator a third of its time
/// went there.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Fastens sidecars to Kubernetes pods
///
/// Exit code of every command: 0 all is good; 1 something was found, and the output says what; 2 the command could not
/// do its work.
#[derive(Parser)]
#[command(name = "outrigger", version, max_term_width = 100)]
#[command(after_help = "Examples:
  outrigger inject -f app.yaml | diff app.yaml -    what would change, without a cluster
  outrigger check --pre                             whether a cluster is ready for the chart
  outrigger check                                   whether injection works, and who was missed
  outrigger explain deploy/web -n shop              why a pod is injected, or not
  outrigger reconfigure deploy/web -n shop          bring a changed profile to running pods
  outrigger dashboard                               all pods on one page, as they are now
  outrigger tap deploy/web -n shop --status 5xx     its requests as they fail")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Inject(inject::Args),
    Uninject(uninject::Args),
    Check(Box<check::Args>),
    Explain(Box<explain::Args>),
    Reconfigure(Box<reconfigure::Args>),
    Dashboard(Box<dashboard::Args>),
    Top(Box<top::Args>),
    Tap(Box<tap::Args>),
    Hpa(hpa::Args),
    Completion(completion::Args),
    Webhook(Box<outrigger_webhook::Options>),
    Collector(Box<outrigger_collector::Options>),
}

fn main() -> ExitCode {
    // The cluster's client takes the default of the process, and a build together with the proxy has two to choose from.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match Cli::parse().command {
        Command::Inject(args) => inject::run(&args),
        Command::Uninject(args) => uninject::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Reconfigure(args) => reconfigure::run(&args),
        Command::Dashboard(args) => dashboard::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Hpa(args) => hpa::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Webhook(options) => webhook::run(*options),
        Command::Collector(options) => collector::run(*options),
    };
    match result {
        Ok(verdict) => verdict.into(),
        Err(error) => error::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// What clap finds wrong with the definitions, which it tells only to those that run the command concerned.
    #[test]
    fn the_flags_fit_together() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in super::Cli::command().get_subcommands().filter(|command| command.get_name() != "help")
        {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
        }
    }

    /// Those of the two servers stand on their own pages: docs/webhook.md names only some.
    #[test]
    fn every_flag_is_in_the_documentation() {
        let cli_page = include_str!("../../../docs/cli.md");
        let dashboard_page = include_str!("../../../docs/dashboard.md");
        let cli = super::Cli::command();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "webhook") {
            let page = if command.get_name() == "collector" { dashboard_page } else { cli_page };
            for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(
                    page.contains(&format!("--{flag}")),
                    "no page has --{flag} of {}",
                    command.get_name()
                );
            }
        }
    }
}
