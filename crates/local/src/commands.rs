//! What the user types while the demo runs.

use std::io::BufRead as _;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::say;

/// A command, of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Plant the faults, or take them away.
    Fault(bool),
    /// Change the profiles to this version.
    Profile(u8),
    /// Delete a pod.
    Kill(String),
    /// End a pod's processes and leave its object.
    Crash(String),
    /// List the pods.
    Pods,
    /// Say what can be typed.
    Help,
    /// End.
    Quit,
}

/// What can be typed.
pub(crate) const HELP: &str =
    "  fault off | fault on        heal the slow pod and the failing service, or break them again
  kill NAME                   delete a pod: it is marked at once, and leaves after a minute
  crash NAME                  end its processes alone, as of a lost node: it is marked by its silence, within 5 s
  profile v1 | v2 | v3        change the profile of pods that run: measured; each request as JSON in the log; and a breaker
                              with a canned answer before payments
  pods                        the pods, their addresses and logs
  quit, or Ctrl-C             end all of it";

impl Command {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        Some(match words.as_slice() {
            ["fault", "on"] => Self::Fault(true),
            ["fault", "off"] => Self::Fault(false),
            ["profile", "v1"] => Self::Profile(1),
            ["profile", "v2"] => Self::Profile(2),
            ["profile", "v3"] => Self::Profile(3),
            ["kill", name] => Self::Kill((*name).to_owned()),
            ["crash", name] => Self::Crash((*name).to_owned()),
            ["pods"] => Self::Pods,
            ["help" | "?"] => Self::Help,
            ["quit" | "exit" | "q"] => Self::Quit,
            _ => return None,
        })
    }
}

/// Reads them on a thread of its own, because a read of a terminal can't be called off. The end of the input is no command: who
/// starts the demo in the background has none.
pub(crate) fn read() -> UnboundedReceiver<Command> {
    let (sender, receiver) = unbounded_channel();
    std::thread::spawn(move || {
        for line in
            std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty())
        {
            match Command::parse(&line) {
                Some(command) => {
                    if sender.send(command).is_err() {
                        return;
                    }
                }
                None => say(&format!("{:?} is no command:\n{HELP}", line.trim())),
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_words() {
        assert_eq!(Command::parse(" fault  on "), Some(Command::Fault(true)));
        assert_eq!(Command::parse("profile v3"), Some(Command::Profile(3)));
        assert_eq!(Command::parse("profile v4"), None);
        assert_eq!(Command::parse("kill api-7d9c4f-b"), Some(Command::Kill("api-7d9c4f-b".to_owned())));
        assert_eq!(Command::parse("fault sometimes"), None);
    }
}
