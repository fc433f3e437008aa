//! A terminal that is drawn anew, and given back as it was.

use std::io::{Read as _, Write as _};

use anstream::AutoStream;
use anyhow::Context as _;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::output::printable;

/// The second screen of a terminal, with keys that need no return.
pub(super) struct Screen {
    before: Option<Termios>,
    quit: watch::Receiver<bool>,
    /// By which others end it, as `kill` or a closed window do.
    signals: [Signal; 3],
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        // Before there is something to give back.
        let signals = [
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        ];
        let before = termios::tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Ctrl-C comes as a key, so that the terminal is given back also then.
            keys.local_modes.remove(LocalModes::ISIG);
            termios::tcsetattr(stdin(), OptionalActions::Now, &keys)?;
        }
        let (pressed, quit) = watch::channel(false);
        std::thread::spawn(move || {
            let mut key = [0];
            while std::io::stdin().read(&mut key).is_ok_and(|read| read > 0) {
                // Ctrl-C is the third letter's control code.
                if matches!(key[0], b'q' | b'Q' | 3) {
                    pressed.send_replace(true);
                    return;
                }
            }
            // Without keys it goes on until it is ended from outside.
            std::mem::forget(pressed);
        });
        let screen = Self { before, quit, signals };
        write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// Characters of a line, and lines; of a terminal that does not tell, the usual ones.
    #[expect(clippy::unused_self, reason = "there is something to draw on while it is open")]
    pub(super) fn size(&self) -> (usize, usize) {
        let size = termios::tcgetwinsize(stdout()).map(|size| (size.ws_col.into(), size.ws_row.into()));
        size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24))
    }

    /// Draws as many lines of it as there is room for, and below them a note.
    pub(super) fn show(&self, text: &str, note: &str) -> anyhow::Result<()> {
        let (columns, rows) = self.size();
        // Each line to its end, and what was below: no flicker, as clearing first would make.
        let shown: Vec<_> = text.lines().take(rows.saturating_sub(2)).collect();
        let more = match text.lines().count() - shown.len() {
            0 => String::new(),
            more => format!("{more} more lines  "),
        };
        let note: String = printable(&format!("q: quit  {more}{note}")).chars().take(columns).collect();
        let lines = shown.join("\x1b[K\n");
        write("\x1b[H")?;
        let mut out = AutoStream::auto(std::io::stdout());
        out.write_all(lines.as_bytes())
            .and_then(|()| write!(out, "\x1b[K\n\x1b[K\n{note}\x1b[K"))
            .context("failed to draw")?;
        write("\x1b[J")
    }

    /// Until somebody presses q or Ctrl-C, or ends it from outside.
    pub(super) async fn quit(&mut self) {
        let [terminate, hangup, interrupt] = &mut self.signals;
        tokio::select! {
            _ = self.quit.wait_for(|pressed| *pressed) => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write("\x1b[?25h\x1b[?1049l");
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn write(codes: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(codes.as_bytes()).and_then(|()| out.flush()).context("failed to draw")
}
