//! One entry's work, on a thread of its own: ask, fetch, check, switch, tell, watch. Read from [`Worker::run`] down.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use gix_hash::ObjectId;
use gix_object::{CommitRefIter, FindExt, TagRefIter};
use jiff::Timestamp;
use outrigger_api::sync::{SyncSource, SyncSpec};

use crate::app::App;
use crate::checkout::checkout;
use crate::failure::Failure;
use crate::place::{Place, directory_of};
use crate::source::{Objects, Reference, Secret, Session};
use crate::state::{Decision, Offer, State, Version};
use crate::status::Statuses;
use crate::tags::{Choice, Wanted};
use crate::tree::Budget;
use crate::{checksums, pause, signature};

/// Tags that can be told by their dates, each of which has to be fetched once.
pub const MOST_BY_DATE: usize = 64;

/// What a worker is told from outside.
#[derive(Debug)]
pub enum Order {
    /// Ask the repository now.
    Poll,
    /// Go by this from now on.
    Take(Box<SyncSource>),
}

/// One entry's work.
pub struct Worker {
    source: SyncSource,
    app: App,
    place: Place,
    state: State,
    statuses: Statuses,
    /// Which of `statuses`.
    at: usize,
    /// What is known of tags that are no versions.
    dates: HashMap<ObjectId, i64>,
}

impl Worker {
    /// Takes up where the last one ended, whatever it was doing then.
    pub fn new(source: SyncSource, app: App, statuses: Statuses, at: usize) -> Result<Self, Failure> {
        let opened = Place::open(Path::new(&source.directory));
        let place = opened.map_err(|error| Failure::Disk { what: "open the volume", error })?;
        let mut state = place.load();
        let linked = place.linked();
        let may_be_bad = source.spec.verify_for.is_some() && state.current.is_some();
        let on_trial = state.on_trial || (may_be_bad && state.next.is_some());
        let had_content = state.current.is_some() || !source.spec.fallback.is_empty();
        state.settle(linked.as_deref(), on_trial, had_content);
        if state.current.as_ref().map(|current| current.directory.as_str()) != linked.as_deref() {
            // The link is what the app sees; a state that says otherwise is of no use.
            state.current = None;
        }
        let mut worker = Self { source, app, place, state, statuses, at, dates: HashMap::new() };
        // What the last one was cut off from: a version that nobody saw, or one too many.
        worker.tidy();
        worker.show();
        if linked.is_none() {
            worker.put_fallback()?;
        }
        Ok(worker)
    }

    /// Works until there is nobody left who could give orders.
    pub fn run(mut self, orders: &Receiver<Order>) {
        let mut failures = 0;
        loop {
            let result = self.round();
            self.report(&result);
            let has_content = self.place.linked().is_some();
            // An app that has nothing to start with waits for whatever is missing, a tag perhaps.
            let is_urgent = result.as_ref().is_err_and(|failure| failure.backs_off() || !has_content);
            failures = if is_urgent { failures + 1 } else { 0 };
            let chance = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
            let wait = pause::after(self.source.spec.interval.length(), failures, has_content, chance);
            match orders.recv_timeout(wait) {
                Ok(Order::Poll) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Take(source)) => self.take(*source),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Goes by another config from now on. What that means for the versions there are is decided in the next round.
    pub fn take(&mut self, source: SyncSource) {
        self.source = source;
    }

    /// Ends what the last round could not, asks the repository once, and does what follows.
    pub fn round(&mut self) -> Result<(), Failure> {
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
        let spec = self.source.spec.clone();
        let secret = Secret::named(spec.git.secret_name.as_deref());
        let mut session = Session::open(&spec.git.url, &secret)?;
        let wanted = Wanted::new(&spec.git);
        let references = session.references(&wanted.ref_prefix())?;
        self.statuses.change(self.at, |entry| entry.answered = Some(Timestamp::now()));
        let reference = self.choose(&wanted, references, &secret)?;
        let offer = Offer::new(reference.name.clone(), reference.commit.to_string(), &spec);
        let may_move = spec.git.allow_moved_tags || matches!(wanted, Wanted::Branch(_));
        match self.state.decide(&offer, may_move) {
            Decision::Keep => Ok(()),
            Decision::Bad(reason) => Err(Failure::Bad { version: offer.name, reason }),
            Decision::Moved { from } => Err(Failure::Moved { tag: offer.name, from, to: offer.commit }),
            Decision::Return(version) => self.put(Version { since: now(), ..version }),
            Decision::Fetch => {
                let made = self.make(&mut session, &reference).inspect_err(|failure| {
                    self.remember(&offer, failure);
                    // Others of the pod may need the disk until the next round.
                    self.tidy();
                })?;
                let directory = directory_of(&offer, spec.git.directory.as_deref());
                let published = self.place.publish(&made, &directory);
                published.map_err(|error| Failure::Disk { what: "publish the version", error })?;
                if self.state.current.as_ref().is_some_and(|current| current.directory == directory) {
                    // The same files, good by other rules too: nothing that the app would have to know.
                    self.state.confirm(offer);
                    return self.save();
                }
                self.put(Version { offer, directory, since: now() })
            }
        }
    }

    fn choose(
        &mut self,
        wanted: &Wanted,
        references: Vec<Reference>,
        secret: &Secret,
    ) -> Result<Reference, Failure> {
        let SyncSpec { git, .. } = &self.source.spec;
        let none = |wanted: String| Failure::NoMatch { url: git.url.clone(), wanted };
        let name = match wanted {
            Wanted::Branch(branch) => branch.clone(),
            _ => match wanted.newest(references.iter().map(|reference| reference.name.as_str())) {
                Choice::Newest(name) => name,
                Choice::None => {
                    return Err(none(format!("tag that is {:?}", git.tags.as_deref().unwrap_or_default())));
                }
                Choice::ByDate(names) => {
                    let dated =
                        references.into_iter().filter(|reference| names.contains(&reference.name)).collect();
                    return self.latest(dated, secret);
                }
            },
        };
        let found = references.into_iter().find(|reference| reference.name == name);
        found.ok_or_else(|| none(format!("branch {name}")))
    }

    /// The tag that was made last. Only those not seen before are asked for.
    fn latest(&mut self, references: Vec<Reference>, secret: &Secret) -> Result<Reference, Failure> {
        if references.len() > MOST_BY_DATE {
            return Err(Failure::TooManyTags(references.len()));
        }
        self.dates.retain(|object, _| references.iter().any(|reference| reference.object == *object));
        let unknown: Vec<_> = references.iter().map(|reference| reference.object).collect();
        let unknown: Vec<_> = unknown.into_iter().filter(|object| !self.dates.contains_key(object)).collect();
        if !unknown.is_empty() {
            // A connection of its own: before version 2 of the protocol each serves for one fetch.
            let mut session = Session::open(&self.source.spec.git.url, secret)?;
            let work = self.work()?;
            let objects = session.fetch(&unknown, &work, self.most_bytes())?;
            for object in unknown {
                self.dates.insert(object, date(&objects, object).unwrap_or(i64::MIN));
            }
        }
        let date = |reference: &Reference| self.dates.get(&reference.object).copied().unwrap_or(i64::MIN);
        let latest = references.into_iter().max_by_key(|reference| (date(reference), reference.name.clone()));
        latest.ok_or(Failure::TooManyTags(0))
    }

    /// Fetches a version and checks all that can be checked before anybody sees it.
    fn make(&self, session: &mut Session, reference: &Reference) -> Result<PathBuf, Failure> {
        let SyncSpec { git, limits, require_checksums, .. } = &self.source.spec;
        let work = self.work()?;
        let objects = session.fetch(&[reference.object], &work.join("objects"), self.most_bytes())?;
        signature::verify(&objects, reference, &git.signed_by)?;
        let made = work.join("tree");
        fs::create_dir(&made).map_err(|error| Failure::Disk { what: "make a directory", error })?;
        let budget = Budget::new(limits.files, self.most_bytes());
        let used = checkout(&objects, reference.commit, git.directory.as_deref(), &made, budget)?;
        checksums::verify(&made, *require_checksums)?;
        tracing::debug!(version = reference.name, files = used.files(), bytes = used.bytes(), "checked out");
        Ok(made)
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
        self.statuses.change(self.at, |entry| entry.switches += 1);
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

    /// A version that is broken by itself is not fetched again.
    fn remember(&mut self, offer: &Offer, failure: &Failure) {
        if failure.is_of_version() {
            self.state.refuse(offer.clone(), failure.to_string(), now());
            if let Err(error) = self.save() {
                tracing::warn!(%error, "a bad version may be fetched again");
            }
            self.show();
        }
    }

    fn report(&self, result: &Result<(), Failure>) {
        let (container, path) = (&self.app.container, &self.source.spec.path);
        let mut is_news = false;
        self.statuses.change(self.at, |entry| is_news = entry.ended(result));
        match result {
            Err(failure) if is_news => {
                tracing::warn!(reason = failure.code(), container, path, error = %failure, "what is served stays");
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

    fn most_bytes(&self) -> u64 {
        self.source.spec.limits.size.bytes()
    }
}

/// When a tag or commit was made, in seconds since the Unix epoch.
fn date(objects: &Objects, id: ObjectId) -> Option<i64> {
    let mut buffer = Vec::new();
    let object = objects.find(&id, &mut buffer).ok()?;
    let time = match object.kind {
        gix_object::Kind::Tag => {
            TagRefIter::from_bytes(object.data, id.kind()).tagger().ok()??.time().ok()?
        }
        _ => CommitRefIter::from_bytes(object.data, id.kind()).committer().ok()?.time().ok()?,
    };
    Some(time.seconds)
}

fn now() -> i64 {
    Timestamp::now().as_second()
}
