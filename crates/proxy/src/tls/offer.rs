//! Whether clients are offered HTTP/2 by ALPN: where the app speaks it, since what they speak is what the app gets.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::connect;
use crate::target::Target;

/// How a connection of HTTP/2 begins, RFC 9113 section 3.4: the preface, and settings that set nothing.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of a frame with settings, which every server begins with. No answer of HTTP/1 has it in this place.
const SETTINGS: u8 = 4;
/// How long the app may take to answer. Clients wait meanwhile, but only the first ones.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long an app counts as one of HTTP/1 that has said nothing: it may have been too busy.
const PAUSE: Duration = Duration::from_mins(1);

/// What an app has said when it was asked.
#[derive(Debug, Default)]
pub(crate) struct Offer(Mutex<Option<Told>>);

#[derive(Debug)]
struct Told {
    http2: bool,
    until: Option<Instant>,
}

impl Offer {
    /// Whether HTTP/2 is offered. The app is asked once; one that is not there yet, again with the next client.
    pub(crate) async fn has_http2(&self, app: &Target) -> bool {
        let mut told = self.0.lock().await;
        if let Some(Told { http2, .. }) =
            told.as_ref().filter(|told| told.until.is_none_or(|end| Instant::now() < end))
        {
            return *http2;
        }
        let (http2, until) = match tokio::time::timeout(PATIENCE, ask(app)).await {
            Ok(Ok(http2)) => (http2, None),
            Ok(Err(error)) if is_an_answer(&error) => (false, None),
            Ok(Err(_)) => return false,
            Err(_) => (false, Some(Instant::now() + PAUSE)),
        };
        *told = Some(Told { http2, until });
        http2
    }
}

async fn ask(app: &Target) -> io::Result<bool> {
    let mut stream = connect::first_that_accepts(app).await?;
    stream.write_all(BEGINNING).await?;
    let mut first = [0; 4];
    stream.read_exact(&mut first).await?;
    Ok(first[3] == SETTINGS)
}

/// It was there, and hung up.
fn is_an_answer(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
