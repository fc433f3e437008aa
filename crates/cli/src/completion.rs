//! `outrigger completion`: what a shell needs to complete our flags.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::error::Verdict;
use crate::output;

/// Prints a script that completes commands and flags in a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:
  outrigger completion bash > /etc/bash_completion.d/outrigger
  outrigger completion zsh > \"${fpath[1]}/_outrigger\"
  outrigger completion fish > ~/.config/fish/completions/outrigger.fish")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Verdict> {
    let shell = match args.shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut crate::Cli::command(), "outrigger", &mut script);
    output::plain(&String::from_utf8_lossy(&script))?;
    Ok(Verdict::Good)
}
