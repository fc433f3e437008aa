//! The sidecar's side of a round: starts its process, waits as long as the limits allow, and says how it ended.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::failure::{Reason, Told};
use crate::round::{Outcome, Question, Report};

/// The argument that makes this program a round.
pub const COMMAND: &str = "round";
/// The most bytes of a report. What is in it comes from a repository, though each part has a bound.
const REPORT: usize = 1 << 20;

/// Lets `program`, which is this one, go one round. Returns what it reported, and how it ended, by itself or not.
pub fn ask(program: &Path, question: &Question) -> Result<(Report, Result<Outcome, Told>), Told> {
    let failed = |error: io::Error| {
        let message =
            format!("failed to start and hear the process that asks {}: {error}", question.spec.git.url);
        Told { reason: Reason::Unreachable, message }
    };
    let mut command = Command::new(program);
    let mut child =
        command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let text = serde_json::to_vec(question).expect("our own types have string keys only");
    // Beside, as one that does not read would keep us here for ever. It ends with the process; one that has died already says so below.
    let asked = thread::Builder::new().spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(&text)));
    let heard =
        asked.and_then(|_| stdout.map(|stdout| listen(stdout, question.spec.limits.time())).transpose());
    let _ = child.kill();
    let status = child.wait().map_err(failed)?;
    let (text, is_in_time) = heard.map_err(failed)?.unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    let mut reports = lines.filter_map(|line| serde_json::from_slice::<Report>(line).ok());
    let mut report = reports.next_back().unwrap_or_default();
    let end = report.end.take().unwrap_or_else(|| Err(cut_off(question, &report, is_in_time, status)));
    Ok((report, end))
}

/// The last of what is said, and whether that ended in time. Each line says all that is known, so those before the last whole one go.
fn listen(mut stdout: ChildStdout, limit: Duration) -> io::Result<(Vec<u8>, bool)> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Ok((text, false)),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let length = stdout.read(&mut buffer)?;
        if length == 0 {
            return Ok((text, true));
        }
        text.extend_from_slice(&buffer[..length]);
        let mut ends = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        if let Some((before, _)) = ends.nth(1) {
            text.drain(..=before);
        }
        if text.len() > REPORT {
            return Err(io::Error::other(format!("it says more than {REPORT} bytes")));
        }
    }
}

/// What it means that a round did not say how it ended.
fn cut_off(question: &Question, report: &Report, is_in_time: bool, status: ExitStatus) -> Told {
    let (url, limits) = (&question.spec.git.url, &question.spec.limits);
    if !is_in_time {
        let seconds = limits.time().as_secs();
        let message = format!("{url} took longer than the {seconds} s that limits.size gives it");
        return Told { reason: Reason::Unreachable, message };
    }
    let reason = if report.offer.is_some() { Reason::TooLarge } else { Reason::BrokenAnswer };
    // Rust's answer to an allocation that fails.
    if status.signal() == Some(Signal::ABORT.as_raw()) {
        let bytes = limits.memory();
        let message = format!(
            "what {url} sends takes more than the {bytes} bytes of memory that limits.file and limits.files give it"
        );
        return Told { reason, message };
    }
    // We send it only after the time, so it was the kernel.
    if status.signal() == Some(Signal::KILL.as_raw()) {
        let message = format!("the process that asked {url} was killed: it probably ran out of memory");
        return Told { reason, message };
    }
    let message = format!("the process that asked {url} ended with {status}");
    Told { reason: Reason::BrokenAnswer, message }
}

#[cfg(test)]
mod tests {
    use outrigger_api::sync::SyncSpec;

    use super::*;
    use crate::state::{Offer, State};

    #[test]
    fn a_process_that_does_not_end_is_heard_until_its_time_is_over() {
        let mut child = Command::new("sh")
            .args(["-c", "echo said; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        // Only then does the time begin.
        let mut first = [0; 1];
        stdout.read_exact(&mut first).unwrap();
        let (text, is_in_time) = listen(stdout, Duration::from_millis(100)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((first.as_slice(), text.as_slice(), is_in_time), (&b"s"[..], &b"aid\n"[..], false));
    }

    /// All was kept, as much as there was.
    #[test]
    fn the_last_line_is_heard_and_one_without_end_is_not() {
        let heard = |script| {
            let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let heard = listen(child.stdout.take().unwrap(), Duration::from_mins(1));
            child.kill().unwrap();
            child.wait().unwrap();
            heard
        };
        assert_eq!(heard("yes | head -c 9000000; echo last; printf cut").unwrap().0, b"last\ncut");
        assert!(heard("exec cat /dev/zero").unwrap_err().to_string().contains("more than 1048576 bytes"));
    }

    /// The error left it running, and a question that nobody read was waited for without end.
    #[test]
    fn a_program_that_does_not_read_its_question_is_ended_in_its_time() {
        let mut spec = SyncSpec::default();
        // More than a pipe holds.
        spec.git.url = "x".repeat(1 << 20);
        let question = Question { parent: 1, spec, state: State::default(), work: "w".into() };
        let directory = std::env::temp_dir().join(format!("outrigger-asking-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let program = directory.join("program");
        std::fs::write(&program, "#!/bin/sh\necho $$ >\"$0.pid\"\nexec cat /dev/zero\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let told = ask(&program, &question).unwrap_err();
        assert!(told.message.contains("it says more than"), "{}", &told.message[told.message.len() - 99..]);
        let pid = std::fs::read_to_string(directory.join("program.pid")).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "it was ended and waited for");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_ended_a_round_is_told_and_is_the_versions_fault_where_that_is_known() {
        let mut spec = SyncSpec::default();
        spec.git.url = "https://h/p".to_owned();
        let question = Question { parent: 1, spec, state: State::default(), work: "w".into() };
        let about = Report { offer: Some(Offer::default()), ..Report::default() };
        let told = |report: &Report, is_in_time, status| {
            let told = cut_off(&question, report, is_in_time, ExitStatus::from_raw(status));
            assert!(told.message.contains("https://h/p"), "{told}");
            told.reason
        };
        let aborted = Signal::ABORT.as_raw();
        assert_eq!(told(&about, true, aborted), Reason::TooLarge);
        assert_eq!(told(&Report::default(), true, aborted), Reason::BrokenAnswer);
        assert_eq!(told(&about, false, Signal::KILL.as_raw()), Reason::Unreachable);
        let killed = Signal::KILL.as_raw();
        assert_eq!(told(&about, true, killed), Reason::TooLarge, "out of memory, and again the next time");
        assert_eq!(told(&Report::default(), true, killed), Reason::BrokenAnswer);
        assert_eq!(told(&about, true, 1 << 8), Reason::BrokenAnswer);
    }
}
