//! The collector: the picture of the whole mesh.
//!
//! [`source`] finds injected pods, [`poll`] asks each for its `/stats`, [`watched`] turns two answers into figures and
//! [`judge`] says what is to be looked at. [`view`] is what [`api`] tells, to the page and to whoever asks. Nothing is written
//! anywhere: 15 minutes are kept in memory.
//!
//! It reads and never writes: list and watch of pods is all that it may do in a cluster. Where [`custom_metrics`] are asked for, it
//! also keeps its certificate in its own `APIService`, and asks for the rights of those who want them.

mod api;
mod custom_metrics;
mod figures;
mod guard;
mod histogram;
mod judge;
mod mesh;
mod metrics;
mod options;
mod page;
mod pod;
mod poll;
mod run;
mod shared;
mod source;
mod stats;
mod sync;
mod view;
mod watched;

pub use options::Options;
pub use run::{RunError, Source, run};
