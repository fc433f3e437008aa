//! Figures by route, for `/stats`: what Prometheus must not be given as labels, because clients choose it.
//!
//! A route is a method and a path's template. A port has so many of them at most, and everything else is counted as one
//! more, so that nothing is lost and nothing grows.

mod lookup;
mod quantiles;
mod route;
pub(crate) mod template;

pub(crate) use lookup::{Place, WorkersRoutes};
pub(crate) use quantiles::{Counted, DurationStats};
pub(crate) use route::{AllRoutes, Ended, Route};
