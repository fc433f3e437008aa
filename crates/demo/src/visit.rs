//! Visitors of the shop: so many pages a second, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use hyper::http::Uri;
use outrigger_runtime::shutdown;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};

use crate::call;

/// Visitors that wait for a page at a time. Who comes then goes away again: a slow shop must not fill the memory.
const PATIENT: usize = 200;

/// Visits the pages of a shop.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the shop is, as `http://host:port`.
    url: Uri,
    /// Pages a second.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Visitors that come at the same time, then none until so many are due again. One at a time, the shop's proxy needs no more
    /// connections than a page has parts; a connection behind a Service stays with its pod, and a pod that has none is never asked.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    together: u32,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (trigger, stop) = shutdown::channel();
    shutdown::on_signal(trigger)?;
    let mut ticks = interval(Duration::from_secs(1) * args.together / args.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let room = Arc::new(Semaphore::new(PATIENT));
    for number in 0_u64.. {
        if number % u64::from(args.together) == 0 {
            tokio::select! {
                () = stop.requested() => break,
                _ = ticks.tick() => {}
            }
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let url = args.url.clone();
        tokio::spawn(async move {
            // What becomes of it, the sidecars count.
            let _ = call::get(&url, &format!("/shop/{}", 100 + number % 50)).await;
            drop(permit);
        });
    }
    Ok(())
}
