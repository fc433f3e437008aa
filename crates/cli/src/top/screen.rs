//! A terminal that is drawn anew, and given back as it was.

use std::io::{Read as _, Write as _};

use anstream::AutoStream;
use anyhow::Context as _;
use rustix::stdio::stdin;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::sync::watch;

/// The second screen of a terminal, with keys that need no return.
pub(super) struct Screen {
    before: Option<Termios>,
    quit: watch::Receiver<bool>,
}

impl Screen {
    pub(super) fn open() -> anyhow::Result<Self> {
        // Where the input is no terminal, Ctrl-C ends it.
        let before = termios::tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Ctrl-C comes as a key, so that the terminal is given back also then.
            keys.local_modes.remove(LocalModes::ISIG);
            termios::tcsetattr(stdin(), OptionalActions::Now, &keys)
                .context("failed to set up the terminal")?;
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
        let screen = Self { before, quit };
        write("\x1b[?1049h\x1b[?25l")?;
        Ok(screen)
    }

    /// Draws it.
    #[expect(clippy::unused_self, reason = "there is something to draw on while it is open")]
    pub(super) fn show(&self, text: &str) -> anyhow::Result<()> {
        // Each line to its end, and what was below: no flicker, as clearing first would make.
        let lines = text.replace('\n', "\x1b[K\n");
        write("\x1b[H")?;
        let mut out = AutoStream::auto(std::io::stdout());
        out.write_all(lines.as_bytes())
            .and_then(|()| out.write_all(b"\nq: quit\x1b[K"))
            .context("failed to draw")?;
        write("\x1b[J")
    }

    /// Until somebody presses q or Ctrl-C.
    pub(super) async fn quit(&mut self) {
        let _ = self.quit.wait_for(|pressed| *pressed).await;
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
