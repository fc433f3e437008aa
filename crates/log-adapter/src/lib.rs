//! Outrigger's log adapter: files in a shared volume become JSON lines on stdout.
//!
//! One thread does the work, so its state needs no locks: `tail` goes round the files; `followed` reads one on; `frame` and
//! `multiline` cut events; a parser of `formats` understands them; `output` writes them; `sink` waits until whoever reads has
//! them; then `checkpoint` remembers how far. `generations` knows which file is which across rotations. The admin server has a
//! thread of its own: a blocked output must not keep anybody from seeing that it is blocked.

pub mod admin;
pub mod checkpoint;
mod collector;
mod complaints;
pub mod config;
pub mod convert;
mod cursor;
mod discover;
mod escape;
mod followed;
pub mod formats;
mod frame;
mod generations;
pub mod glob;
mod identity;
mod level;
pub mod metrics;
mod multiline;
mod open_files;
pub mod output;
pub mod record;
mod sink;
pub mod source;
pub mod tail;
pub mod time;
mod wake;

pub use cursor::Span;
pub use identity::Generation;
pub use level::Level;
pub use sink::stdout;
