//! HTTP/1, our own path: original bytes go through, only what concerns one connection is edited.
//!
//! hyper would take apart each head and write it anew, and keep 8 to 16 KiB for each connection; measured beside a bare
//! relay that cost 15 to 25 % more processor time and more than twice the memory.
//!
//! `connection` waits for requests, `exchange` is the way of one, top to bottom. `head` and `framing` know the grammar and
//! touch no socket.

#![expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice, and all of a task is cold memory with every request"
)]

mod answer;
mod connection;
#[cfg(test)]
mod differential;
mod edit;
mod exchange;
mod framing;
mod head;
mod request_body;
mod response;

pub(crate) use answer::of as own_answer;
pub(crate) use connection::{Client, linger, serve};
