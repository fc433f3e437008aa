//! One measured round, and medians of rounds.

/// One round of load. Times in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Requests answered with 200; where the work is TCP, bytes.
    pub(crate) done: f64,
    /// Every other end of a request.
    pub(crate) errors: f64,
    /// How long the load went on.
    pub(crate) seconds: f64,
    /// User and system time of the proxy.
    pub(crate) cpu: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// The p99 of as many answers in a row as are due in a tenth of a second, and the median of those: what happens in fewer than
    /// half of them does not move it, as stalls of the machine. NaN where the load does not tell.
    pub(crate) p99_of_tenths: f64,
}

impl Sample {
    /// CPU time for one request.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu / self.done
    }

    /// Requests, or bytes, a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done / self.seconds
    }
}

/// The middle one, of an even number the lower; NaN of nothing.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures.len().checked_sub(1).map_or(f64::NAN, |last| figures[last / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_one_of_the_figures() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0]) - 1.0).abs() < f64::EPSILON);
        assert!(median([]).is_nan());
    }
}
