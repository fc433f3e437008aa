//! A request's body, kept for another try.

use std::cell::{Cell, RefCell};

use bytes::{Buf, Bytes};
use h2::SendStream;

use crate::http2::piece::Piece;

/// The most that is kept of a body, in bytes. Calls by gRPC are mostly smaller, and what is larger costs more memory than a try is worth.
const MOST: usize = 64 * 1024;

/// What has passed of a body.
#[derive(Debug)]
pub(crate) struct Kept {
    /// `None` where it is not kept, or is no longer.
    pieces: RefCell<Option<Vec<Piece>>>,
    is_whole: Cell<bool>,
}

impl Kept {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { pieces: RefCell::new(wanted.then(Vec::new)), is_whole: Cell::new(false) }
    }

    /// This has passed.
    pub(crate) fn keep(&self, piece: &Bytes) {
        let mut kept = self.pieces.borrow_mut();
        let Some(pieces) = &mut *kept else { return };
        pieces.push(piece.clone().into());
        if pieces.iter().map(Buf::remaining).sum::<usize>() > MOST {
            *kept = None;
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&self) {
        self.is_whole.set(true);
    }

    /// Trailers come, which are not kept: of requests they are rare.
    pub(crate) fn give_up(&self) {
        self.pieces.replace(None);
    }

    /// Whether the body can be sent once more.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole.get() && self.pieces.borrow().is_some()
    }

    /// Sends it. All at once: the connection holds back what the other side has no room for.
    pub(crate) fn send(&self, to: &mut SendStream<Piece>) -> Result<(), h2::Error> {
        let kept = self.pieces.borrow();
        let (last, others) = kept.as_deref().unwrap_or_default().split_last().unzip();
        for piece in others.unwrap_or_default() {
            to.send_data(piece.bytes.clone().into(), false)?;
        }
        to.send_data(last.map_or_else(Bytes::new, |piece| piece.bytes.clone()).into(), true)
    }
}
