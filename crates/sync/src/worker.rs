//! One entry's work, on a thread of its own: ask, switch, tell, watch. Read from [`Worker::run`] down. What touches the network or a
//! repository's objects is in a process of its own (`round.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use jiff::Timestamp;
use outrigger_api::sync::SyncSource;

use crate::app::App;
use crate::asking;
use crate::failure::{Failure, Told};
use crate::pause;
use crate::place::{Place, directory_of};
use crate::round::{Outcome, Question, Report};
use crate::state::{Bad, Offer, State, Version};
use crate::status::Statuses;

/// What a worker is told from outside.
#[derive(Debug)]
pub enum Order {
    /// Ask the repository now.
    Poll,
    /// Ask it now, and take what was bad before as if it were new.
    Retry,
    /// Go by this from now on.
    Take(Box<SyncSource>),
}

/// One entry's work.
pub struct Worker {
    source: SyncSource,
    app: App,
    place: Place,
    state: State,
    /// Whether `state` is what is on the disk.
    started: bool,
    statuses: Statuses,
    /// Which of `statuses`.
    at: usize,
    /// This program, for the processes of rounds.
    program: PathBuf,
}

impl Worker {
    /// One that has not looked at its directory yet.
    pub fn new(source: SyncSource, app: App, statuses: Statuses, at: usize, program: PathBuf) -> Self {
        let place = Place::at(Path::new(&source.directory));
        Self { source, app, place, state: State::default(), started: false, statuses, at, program }
    }

    /// Takes up where the last one ended, whatever it was doing then. Each round does it, until it could.
    pub fn start(&mut self) -> Result<(), Failure> {
        if !self.started {
            self.place.open().map_err(|error| Failure::Disk { what: "open the volume", error })?;
            self.state = self.place.load();
            let linked = self.place.linked();
            let may_be_bad = self.source.spec.verify_for.is_some() && self.state.current.is_some();
            let on_trial = self.state.on_trial || (may_be_bad && self.state.next.is_some());
            let had_content = self.state.current.is_some() || !self.source.spec.fallback.is_empty();
            self.state.settle(linked.as_deref(), on_trial, had_content);
            if self.state.current.as_ref().map(|current| current.directory.as_str()) != linked.as_deref() {
                // The link is what the app sees; a state that says otherwise is of no use.
                self.state.current = None;
            }
            // What the last one was cut off from: a version that nobody saw, or one too many.
            self.tidy();
            self.show();
            self.started = true;
        }
        if self.place.linked().is_none()
            && let Err(error) = self.put_fallback()
        {
            // A version may come in its place.
            tracing::warn!(%error, container = self.app.container, path = self.source.spec.path, "there is no fallback");
        }
        Ok(())
    }

    /// Works until there is nobody left who could give orders.
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut failures = 0;
        loop {
            let result = self.round();
            self.report(&result);
            let has_content = self.place.linked().is_some();
            // An app that has nothing to start with waits for whatever is missing, a tag perhaps.
            let is_urgent =
                result.as_ref().is_err_and(|failure| failure.reason().backs_off() || !has_content);
            failures = if is_urgent { failures + 1 } else { 0 };
            let chance = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
            let wait = pause::after(self.source.spec.interval.length(), failures, has_content, chance);
            match orders.recv_timeout(wait) {
                Ok(order) => self.obey(std::iter::once(order).chain(orders.try_iter())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One round follows, however many orders have come since the last.
    fn obey(&mut self, orders: impl Iterator<Item = Order>) {
        let mut is_retry = false;
        for order in orders {
            match order {
                Order::Poll => {}
                Order::Retry => is_retry = true,
                Order::Take(source) => self.take(*source),
            }
        }
        if is_retry {
            self.retry();
        }
    }

    /// Goes by another config from now on. What that means for the versions there are is decided in the next round.
    pub fn take(&mut self, source: SyncSource) {
        self.source = source;
    }

    /// Takes what was bad as if it were new, in the next round.
    pub fn retry(&mut self) {
        // What is on the disk must be known before it is written.
        let forgiven = self.start().and_then(|()| {
            self.state.forgive();
            self.save()
        });
        if let Err(error) = forgiven {
            tracing::warn!(%error, "what was bad is so again at the next start");
        }
        self.show();
    }

    /// Ends what the last round could not, asks the repository once, and does what follows.
    pub fn round(&mut self) -> Result<(), Failure> {
        self.start()?;
        let introduced = self.introduce();
        // Perhaps a newer version, with which all is well after all.
        self.follow()?;
        if self.state.untold || self.state.on_trial { introduced } else { Ok(()) }
    }

    /// Asks the repository once, and puts what is new in place.
    fn follow(&mut self) -> Result<(), Failure> {
        self.statuses.change(self.at, |entry| {
            entry.polls += 1;
            entry.asked = Some(Timestamp::now());
        });
        let work = self.work()?;
        let question = Question {
            parent: std::process::id(),
            spec: self.source.spec.clone(),
            state: self.state.clone(),
            work: work.clone(),
        };
        let (report, end) = asking::ask(&self.program, &question)?;
        if report.answered {
            self.statuses.change(self.at, |entry| entry.answered = Some(Timestamp::now()));
        }
        self.learn(&report, end.as_ref().err());
        let version = report.offer.as_ref().map(|offer| offer.name.as_str()).unwrap_or_default();
        match (end.map_err(|told| told.about(version))?, report.offer) {
            (Outcome::Return(version), _) => self.put(Version { since: now(), ..version }),
            (Outcome::Made { files, bytes }, Some(offer)) => {
                tracing::debug!(version = offer.name, files, bytes, "checked out");
                self.take_over(&work.join("tree"), offer)
            }
            _ => Ok(()),
        }
    }

    /// Puts what was made and found good in place.
    fn take_over(&mut self, made: &Path, offer: Offer) -> Result<(), Failure> {
        let directory = directory_of(&offer, self.source.spec.git.directory.as_deref());
        let published = self.place.publish(made, &directory);
        published.map_err(|error| Failure::Disk { what: "publish the version", error })?;
        if self.state.current.as_ref().is_some_and(|current| current.directory == directory) {
            // The same files, good by other rules too: nothing that the app would have to know.
            self.state.confirm(offer);
            return self.save();
        }
        self.put(Version { offer, directory, since: now() })
    }

    /// Lets the app see a version, tells it, and watches how it does.
    fn put(&mut self, version: Version) -> Result<(), Failure> {
        let (name, directory) = (version.offer.name.clone(), version.directory.clone());
        // Without content there is no app yet that could be told.
        let is_first = self.place.linked().is_none();
        let on_trial = self.source.spec.verify_for.is_some() && self.state.current.is_some();
        self.state.prepare(version);
        self.save()?;
        self.switch(&directory)?;
        self.state.settle(self.place.linked().as_deref(), on_trial, !is_first);
        self.save()?;
        self.statuses.change(self.at, |entry| {
            entry.switches += 1;
            // A trial may take long, and what failed before is over.
            entry.failure = None;
        });
        self.tidy();
        self.show();
        tracing::info!(
            reason = "VersionSwitched",
            container = self.app.container,
            path = self.source.spec.path,
            version = name,
            "another version is in place"
        );
        self.introduce()
    }

    /// Tells the app of the version, and watches how it does, if either is still to be done.
    fn introduce(&mut self) -> Result<(), Failure> {
        let told = self.tell();
        self.try_out()?;
        told
    }

    fn tell(&mut self) -> Result<(), Failure> {
        if self.state.untold {
            self.app.tell(&self.source.spec.on_change)?;
            self.state.untold = false;
            self.save()?;
        }
        Ok(())
    }

    /// Watches the app, if the version is on trial, and goes back to the one before where it does not become ready.
    fn try_out(&mut self) -> Result<(), Failure> {
        let (Some(length), true) = (self.source.spec.verify_for.clone(), self.state.on_trial) else {
            return Ok(());
        };
        if self.source.spec.on_change.restart {
            self.app.wait_for_start();
        }
        let ready = self.source.ready.as_ref();
        if ready.is_none_or(|ready| self.app.stays_ready(ready, length.length())) {
            self.state.pass();
            self.save()?;
            self.show();
            return Ok(());
        }
        let reason = format!("the app was not ready {length} after it came");
        let bad = self.state.current.as_ref().map(|current| current.offer.name.clone()).unwrap_or_default();
        let Some(before) = self.state.go_back(reason.clone(), now()) else { return self.save() };
        self.save()?;
        self.switch(&before.directory)?;
        self.state.settle(self.place.linked().as_deref(), false, true);
        self.save()?;
        self.statuses.change(self.at, |entry| entry.rollbacks += 1);
        self.tidy();
        self.show();
        tracing::error!(
            reason = "VersionRolledBack",
            container = self.app.container,
            path = self.source.spec.path,
            version = bad,
            back_to = before.offer.name,
            why = reason,
            "the version before is in place again"
        );
        if let Err(error) = self.tell() {
            tracing::warn!(%error, "the app was not told of the way back");
            // One that can't be ended has died, and reads the files when it starts: no reason to end it then.
            self.state.untold = !self.source.spec.on_change.restart;
            self.save()?;
        }
        Err(Failure::Bad { version: bad, reason })
    }

    fn put_fallback(&mut self) -> Result<(), Failure> {
        let files = &self.source.spec.fallback;
        if files.is_empty() {
            return Ok(());
        }
        let disk = |error| Failure::Disk { what: "write the fallback", error };
        let made = self.work()?.join("tree");
        fs::create_dir(&made).map_err(disk)?;
        for file in files {
            let path = made.join(&file.path);
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(disk)?;
            fs::write(path, &file.content).map_err(disk)?;
        }
        self.place.publish(&made, "fallback").map_err(disk)?;
        self.switch("fallback")?;
        self.show();
        Ok(())
    }

    /// Notes what a round has found out on the way to its end. A version that is broken by itself is not fetched again.
    fn learn(&mut self, report: &Report, failed: Option<&Told>) {
        let known = self.state.clone();
        report.bad.iter().for_each(|bad| self.state.refuse(bad.clone()));
        if let (Some(offer), Some(told)) = (&report.offer, failed.filter(|told| told.reason.is_of_version()))
        {
            self.state.refuse(Bad { offer: offer.clone(), reason: told.message.clone(), at: now() });
        }
        if let Some(dates) = &report.dates {
            self.state.dates.clone_from(dates);
        }
        if failed.is_some() {
            // Others of the pod may need the disk until the next round, and so may the state.
            self.tidy();
        }
        // What can't be saved is found out again.
        if self.state != known
            && let Err(error) = self.save()
        {
            tracing::warn!(%error, "a tag may be fetched again for its date or to find it bad");
        }
        self.show();
    }

    fn report(&self, result: &Result<(), Failure>) {
        let (container, path) = (&self.app.container, &self.source.spec.path);
        let mut is_news = false;
        self.statuses.change(self.at, |entry| is_news = entry.ended(result));
        match result {
            Err(failure) if is_news => {
                tracing::warn!(reason = %failure.reason(), container, path, error = %failure, "what is served stays");
            }
            Ok(()) if is_news => tracing::info!(container, path, "all is well again"),
            _ => {}
        }
    }

    /// An empty directory. What was fetched is not kept, so the disk holds versions and nothing else.
    fn work(&self) -> Result<PathBuf, Failure> {
        self.place.clear_work().map_err(|error| Failure::Disk { what: "empty the work directory", error })
    }

    fn save(&self) -> Result<(), Failure> {
        self.place.save(&self.state).map_err(|error| Failure::Disk { what: "write the state", error })
    }

    fn switch(&self, directory: &str) -> Result<(), Failure> {
        self.place.switch(directory).map_err(|error| Failure::Disk { what: "switch the version", error })
    }

    /// Frees the disk. What can't be removed now is removed after the next switch.
    fn tidy(&self) {
        let tidied = self.place.prune(&self.state).and_then(|()| self.place.clear_work());
        if let Err(error) = tidied {
            tracing::warn!(%error, "old versions could not be removed");
        }
    }

    fn show(&self) {
        let has_content = self.place.linked().is_some();
        self.statuses.change(self.at, |entry| entry.show(&self.state, has_content));
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
