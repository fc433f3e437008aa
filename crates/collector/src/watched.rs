//! One pod as it is watched: its last answers, and what they say about a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::figures::{Figures, History};
use crate::judge::{self, Finding, State, Usual};
use crate::pod::Pod;
use crate::stats::{Breaker, Route, Scope, Stats, Totals};
use crate::sync::Synced;

/// Earlier answers that are kept, one a step: the figures of now are those since the oldest, 10 to 15 s ago.
const BASES: usize = 3;
/// An earlier answer this old is kept for the figures by route, which want more requests than ten seconds bring.
const MINUTE: Duration = Duration::from_mins(1);
/// Without an answer for so long, a pod is marked.
const SILENT: Duration = Duration::from_millis(3500);
/// How long a pod is shown after it was gone, once its object is.
const SHOWN_AFTER: Duration = Duration::from_mins(1);

/// Characters of why there is no answer.
const LONGEST_TROUBLE: usize = 200;

/// Shared, because most of it is the same in more than one place.
type Answer = (Instant, Arc<Stats>);

/// A pod, and what is known of it.
#[derive(Debug)]
pub(crate) struct Watched {
    /// What its object says.
    pub(crate) pod: Arc<Pod>,
    /// Since when it is watched.
    since: Instant,
    latest: Option<Answer>,
    bases: VecDeque<Answer>,
    minutes: VecDeque<Answer>,
    /// Why the last poll brought nothing.
    trouble: Option<String>,
    deleted: Option<Instant>,
    /// Bytes of log files that wait to be written out.
    pub(crate) log_lag: Option<u64>,
    /// Its files that come from repositories; none where nobody tells.
    pub(crate) synced: Option<Vec<Synced>>,
    /// The last quarter of an hour.
    pub(crate) history: History,
}

/// How much CPU or memory, of how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Cores, or bytes.
    pub(crate) used: f64,
    /// The same; none without a limit.
    pub(crate) limit: Option<f64>,
    /// Whose it is.
    pub(crate) of: Scope,
}

impl Watched {
    /// From now on.
    pub(crate) fn new(pod: Arc<Pod>, now: Instant) -> Self {
        Self {
            pod,
            since: now,
            latest: None,
            bases: VecDeque::new(),
            minutes: VecDeque::new(),
            trouble: None,
            deleted: None,
            log_lag: None,
            synced: None,
            history: History::default(),
        }
    }

    /// Its object has changed, or is there again.
    pub(crate) fn replace(&mut self, pod: Arc<Pod>) {
        self.pod = pod;
        self.deleted = None;
    }

    /// Its object is gone.
    pub(crate) fn delete(&mut self, now: Instant) {
        self.deleted.get_or_insert(now);
    }

    /// Whether it has been shown for long enough after its end, which was its last answer where it was silent before it was deleted.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.deleted.is_some_and(|at| {
            let gone = if self.is_silent(at) { self.heard() } else { at };
            now.duration_since(gone) >= SHOWN_AFTER
        })
    }

    /// Whether its object is gone.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.is_some()
    }

    /// It answered.
    pub(crate) fn answered(&mut self, mut stats: Stats, now: Instant) {
        if self.latest.as_ref().is_some_and(|(_, known)| stats.is_of_another_process(known)) {
            // Another process, which counts from nothing: what was before can't be compared with it.
            self.bases.clear();
            self.minutes.clear();
        }
        if let Some((_, known)) = &self.latest {
            stats.share_names(known);
        }
        let stats = Arc::new(stats);
        if self.bases.is_empty() {
            self.bases.push_back((now, Arc::new(stats.without_routes())));
            self.minutes.push_back((now, Arc::clone(&stats)));
        }
        self.trouble = None;
        self.latest = Some((now, stats));
    }

    /// It did not, or what it said was no answer.
    pub(crate) fn failed(&mut self, why: &str) {
        // A line of words, whatever a pod does to be in it with its own.
        self.trouble =
            Some(why.chars().filter(|letter| !letter.is_control()).take(LONGEST_TROUBLE).collect());
    }

    /// A step has passed: its figures go into the history, and are returned. None where nothing came.
    pub(crate) fn step(&mut self) -> Option<Figures> {
        let figures = self.bases.back().and_then(|base| self.since_base(base));
        self.history.push(figures.as_ref());
        let latest = self.latest.clone().filter(|_| figures.is_some())?;
        if self.minutes.back().is_none_or(|(at, _)| latest.0.duration_since(*at) >= MINUTE) {
            self.minutes.push_back(latest.clone());
        }
        self.bases.push_back((latest.0, Arc::new(latest.1.without_routes())));
        keep(&mut self.bases, BASES);
        keep(&mut self.minutes, 2);
        figures
    }

    /// The figures of the last 10 to 15 s; none while it does not answer.
    pub(crate) fn figures(&self, now: Instant) -> Option<Figures> {
        if self.is_deleted() || self.is_silent(now) {
            return None;
        }
        self.since_base(self.bases.front()?)
    }

    fn since_base(&self, (at, base): &Answer) -> Option<Figures> {
        let (last, stats) = self.latest.as_ref()?;
        let time = last.duration_since(*at);
        (!time.is_zero()).then(|| Figures::of(stats.inbound.since(&base.inbound), time))
    }

    /// Each route with what came in the last minute or two, over how long, and its counts since the start. While it does not answer nothing
    /// comes, as far as anybody knows.
    pub(crate) fn routes(&self, now: Instant) -> impl Iterator<Item = (&Route, Figures)> {
        let (last, stats) = self
            .latest
            .as_ref()
            .map_or((None, [].as_slice()), |(at, stats)| (Some(*at), stats.routes.as_slice()));
        let base = self.minutes.front();
        let is_silent = self.is_silent(now);
        stats.iter().map(move |route| {
            let known = base.and_then(|(_, base)| base.routes.iter().find(|known| known.name == route.name));
            let since = match known {
                _ if is_silent => Totals::default(),
                // It was among those that were cut off: what came before that would be taken for what comes now.
                None if base.is_some_and(|(_, base)| base.has_more_routes) => Totals::default(),
                None => route.totals.clone(),
                Some(known) => route.totals.since(&known.totals),
            };
            let time = base.zip(last).map_or(MINUTE, |((at, _), last)| last.duration_since(*at));
            (route, Figures::of(since, time.max(Duration::from_secs(1))))
        })
    }

    /// What it asks of others, by the name of the upstream, and that circuit.
    pub(crate) fn outbound(&self) -> impl Iterator<Item = (&str, Figures, Option<&Breaker>)> {
        let base = self.bases.front();
        let latest = self.latest.iter();
        latest.flat_map(move |(last, stats)| {
            stats.outbound.iter().map(move |outbound| {
                let known = base.and_then(|(_, base)| {
                    base.outbound.iter().find(|known| known.upstream == outbound.upstream)
                });
                let time =
                    base.map_or(MINUTE, |(at, _)| last.duration_since(*at)).max(Duration::from_secs(1));
                let totals = outbound.totals.since(known.map_or(&outbound.totals, |known| &known.totals));
                (&*outbound.upstream, Figures::of(totals, time), outbound.breaker.as_ref())
            })
        })
    }

    /// The last answer.
    pub(crate) fn stats(&self) -> Option<&Stats> {
        self.latest.as_ref().map(|(_, stats)| &**stats)
    }

    /// Requests that it had in flight when it last answered.
    #[allow(clippy::cast_precision_loss)] // requests of a pod
    pub(crate) fn in_flight(&self) -> Option<f64> {
        self.stats().map(|stats| stats.in_flight as f64)
    }

    /// How long ago it last answered.
    pub(crate) fn last_answer(&self, now: Instant) -> Option<Duration> {
        self.latest.as_ref().map(|(at, _)| now.duration_since(*at))
    }

    /// Cores.
    pub(crate) fn cpu(&self) -> Option<Usage> {
        let ((at, base), (last, stats)) = (self.bases.front()?, self.latest.as_ref()?);
        let (before, now) = (base.resources.cpu.as_ref()?, stats.resources.cpu.as_ref()?);
        let seconds = last.duration_since(*at).as_secs_f64();
        let used = ((now.usage_seconds - before.usage_seconds) / seconds).max(0.0);
        used.is_finite().then_some(Usage { used, limit: now.limit_cores, of: now.of })
    }

    /// Bytes.
    #[allow(clippy::cast_precision_loss)] // bytes of a pod
    pub(crate) fn memory(&self) -> Option<Usage> {
        let memory = self.stats()?.resources.memory.as_ref()?;
        let limit = memory.limit_bytes.map(|bytes| bytes as f64);
        Some(Usage { used: memory.working_set_bytes as f64, limit, of: memory.of })
    }

    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard()) >= SILENT
    }

    /// When it last answered, or began to be watched.
    fn heard(&self) -> Instant {
        self.latest.as_ref().map_or(self.since, |(at, _)| *at)
    }

    /// What is to be looked at, the worst first.
    pub(crate) fn findings(&self, now: Instant, usual: Option<Usual>) -> Vec<Finding> {
        let mut findings = self.lifeless(now).map_or_else(|| self.alive(now, usual), |finding| vec![finding]);
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.state));
        findings
    }

    fn lifeless(&self, now: Instant) -> Option<Finding> {
        if let Some(at) = self.deleted {
            let text = format!("the pod was deleted {} s ago", now.duration_since(at).as_secs());
            return Some(Finding::new(State::Gone, text));
        }
        let why = self.trouble.as_deref().unwrap_or("no answer");
        if !self.is_silent(now) {
            return self.latest.is_none().then(|| Finding::new(State::Waiting, "no answer yet"));
        }
        if self.latest.is_none() && (self.pod.address.is_none() || !self.pod.ready) {
            return Some(Finding::new(State::Waiting, format!("the pod is not ready: {}", self.pod.phase)));
        }
        let ago = self.last_answer(now).unwrap_or_else(|| now.duration_since(self.since));
        Some(Finding::new(State::Gone, format!("no answer for {} s: {why}", ago.as_secs())))
    }

    fn alive(&self, now: Instant, usual: Option<Usual>) -> Vec<Finding> {
        let traffic = self.figures(now).map(|own| judge::traffic(&own, usual)).unwrap_or_default();
        let memory = self.memory().zip(self.stats()).and_then(|(_, stats)| {
            let memory = stats.resources.memory.as_ref()?;
            judge::memory(memory.working_set_bytes, memory.limit_bytes?)
        });
        let logs = self.log_lag.and_then(judge::logs);
        let files = self.synced.iter().flatten().filter_map(judge::files);
        let breakers =
            self.outbound().filter_map(|(upstream, _, breaker)| judge::breaker(upstream, breaker?));
        traffic.into_iter().chain(memory).chain(logs).chain(files).chain(breakers).collect()
    }
}

fn keep(answers: &mut VecDeque<Answer>, most: usize) {
    while answers.len() > most {
        answers.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::object;

    /// The last rates of a pod that hung stood on the edges and endpoints for as long as its object was there.
    #[test]
    fn a_pod_that_is_silent_serves_nothing_as_far_as_anybody_knows() {
        let begin = Instant::now();
        let pod = Pod::of(&object("shop", "api", 1, "10.0.0.7")).unwrap();
        let mut watched = Watched::new(Arc::new(pod), begin);
        for (seconds, requests) in [(0, 0), (10, 500)] {
            let text = format!(
                r#"{{"ports": [{{"port": "http", "direction": "inbound", "http": {{"requests": {requests},
                    "routes": [{{"method": "GET", "path": "/", "requests": {requests}}}]}}}}]}}"#
            );
            watched.answered(Stats::parse(text.as_bytes()).unwrap(), begin + Duration::from_secs(seconds));
        }
        let told = |at: Duration| {
            let (route, figures) = watched.routes(begin + at).next().unwrap();
            (route.totals.requests, figures.rate)
        };
        assert_eq!(told(Duration::from_secs(10)), (500, 50.0));
        assert_eq!(told(Duration::from_secs(10) + SILENT), (500, 0.0));
    }

    /// From the beginning in seconds: when it last answered and was deleted, and how long it is shown then.
    #[test]
    fn a_pod_is_shown_for_a_minute_after_it_was_gone() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        for (answered, deleted, over) in [(30, 30, 90), (30, 32, 92), (30, 70, 90), (30, 300, 300)] {
            let pod = Pod::of(&object("shop", "api", 1, "10.0.0.7")).unwrap();
            let mut watched = Watched::new(Arc::new(pod), begin);
            watched.answered(Stats::default(), at(answered));
            assert!(!watched.is_over(at(1000)), "its object is there");
            watched.delete(at(deleted));
            assert_eq!(watched.findings(at(deleted), None)[0].state, State::Gone);
            assert!(watched.is_over(at(over)), "{answered} {deleted}");
            assert!(over == deleted || !watched.is_over(at(over - 1)), "{answered} {deleted}");
        }
    }
}
