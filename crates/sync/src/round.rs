//! One round of questions to a repository, in a process of its own that ends with it: ask, choose, fetch, check out, verify.
//!
//! What it takes in memory goes with the process, and what goes wrong in it (a server without end, objects that are too large) ends it
//! and not the sidecar, which reads what it said until then (`asking.rs`). Nothing here is seen by the app.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use gix_hash::ObjectId;
use gix_object::{CommitRefIter, FindExt, TagRefIter};
use jiff::Timestamp;
use outrigger_api::sync::SyncSpec;
use rustix::process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};

use crate::checkout::checkout;
use crate::failure::{Failure, Told};
use crate::source::{Objects, Reference, Secret, Session};
use crate::state::{Bad, Decision, Offer, State, Version};
use crate::tags::{Choice, Wanted};
use crate::tree::Budget;
use crate::{checksums, signature};

/// Tags that can be told by their dates, each of which has to be asked for once.
pub const MOST_BY_DATE: usize = 64;

/// What a round is told: one line of JSON on stdin.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The process that asks.
    pub parent: u32,
    /// What is wanted.
    pub spec: SyncSpec,
    /// What is known of the versions there are.
    pub state: State,
    /// An empty directory. A new version is made in `tree` below it.
    pub work: PathBuf,
}

/// What is known of a round. Each line of JSON that it writes to stdout is all of that, so the last one holds however it ends.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether the repository has told what it has.
    pub answered: bool,
    /// The version that the round is about.
    pub offer: Option<Offer>,
    /// When tags were made: those that were known and those that were asked for. None where it did not get so far.
    pub dates: Option<BTreeMap<String, i64>>,
    /// Versions that turned out bad on the way to the one that the round is about.
    pub bad: Vec<Bad>,
    /// How it ended; none until it does.
    pub end: Option<Result<Outcome, Told>>,
}

/// What a round that went well has come to.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// What is served is what is wanted.
    Keep,
    /// It was served before and is still on disk.
    Return(Version),
    /// It was fetched, is good and lies in the work directory.
    Made {
        /// Its files, directories and links.
        files: u32,
        /// Their bytes.
        bytes: u64,
    },
}

/// The whole life of the process: reads the question, writes reports.
pub fn run() -> io::Result<()> {
    let question: Question = serde_json::from_reader(io::stdin().lock())?;
    // The next sidecar must not find one of the last at work in its directory.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().is_none_or(|pid| u32::try_from(pid.as_raw_pid()) != Ok(question.parent)) {
        return Ok(());
    }
    // Heap and stacks, and not the files that are mapped.
    let most = Some(question.spec.limits.memory());
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most })?;
    let mut round = Round { question, report: Report::default(), perhaps_newer: None };
    let end = round.follow();
    round.report.end = Some(end.map_err(|failure| Told::from(&failure)));
    round.say();
    Ok(())
}

struct Round {
    question: Question,
    report: Report,
    /// A bad tag that may be newer than the one that was chosen by its date.
    perhaps_newer: Option<Bad>,
}

impl Round {
    fn say(&self) {
        let mut line = serde_json::to_vec(&self.report).expect("our own types have string keys only");
        line.push(b'\n');
        // A sidecar that no longer listens has ended this process already.
        let _ = io::stdout().lock().write_all(&line);
    }

    fn follow(&mut self) -> Result<Outcome, Failure> {
        let spec = self.question.spec.clone();
        let secret = Secret::named(spec.git.secret_name.as_deref());
        let mut session = Session::open(&spec.git.url, &secret)?;
        let wanted = Wanted::new(&spec.git);
        let references = session.references(&wanted.ref_prefix())?;
        self.report.answered = true;
        let reference = self.choose(&wanted, references, &secret)?;
        let offer = self.is_about(&reference);
        let may_move = spec.git.allow_moved_tags || matches!(wanted, Wanted::Branch(_));
        match self.question.state.decide(&offer, may_move) {
            Decision::Keep => self.perhaps_newer.take().map_or(Ok(Outcome::Keep), |bad| Err(bad.into())),
            Decision::Bad(reason) => Err(Failure::Bad { version: offer.name, reason }),
            Decision::Moved { from } => Err(Failure::Moved { tag: offer.name, from, to: offer.commit }),
            Decision::Return(version) => Ok(Outcome::Return(version)),
            Decision::Fetch => {
                self.say();
                self.make(&mut session, &reference)
            }
        }
    }

    fn is_about(&mut self, reference: &Reference) -> Offer {
        let offer = self.offer(reference);
        self.report.offer = Some(offer.clone());
        offer
    }

    fn offer(&self, reference: &Reference) -> Offer {
        Offer::new(reference.name.clone(), reference.commit.to_string(), &self.question.spec)
    }

    fn bad(&self, reference: &Reference) -> Option<&Bad> {
        let offer = self.offer(reference);
        self.question.state.bad.iter().find(|bad| bad.offer == offer)
    }

    fn choose(
        &mut self,
        wanted: &Wanted,
        references: Vec<Reference>,
        secret: &Secret,
    ) -> Result<Reference, Failure> {
        let git = &self.question.spec.git;
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

    /// The tag that was made last. Only those not seen before are asked for. What is bad by itself has no date: it counts as made when
    /// that was found, for who pushed it last must hear of it, but it does not keep back the newest of the others.
    fn latest(&mut self, references: Vec<Reference>, secret: &Secret) -> Result<Reference, Failure> {
        if references.len() > MOST_BY_DATE {
            return Err(Failure::TooManyTags(references.len()));
        }
        let known = &self.question.state.dates;
        let known = references.iter().filter_map(|reference| known.get_key_value(&key(reference)));
        let known: BTreeMap<_, _> = known.map(|(key, date)| (key.clone(), *date)).collect();
        let is_unknown =
            |reference: &&Reference| !known.contains_key(&key(reference)) && self.bad(reference).is_none();
        let unknown: Vec<_> = references.iter().filter(is_unknown).cloned().collect();
        self.report.dates = Some(known);
        self.date(&unknown, secret)?;
        let date = |reference: &Reference| self.report.dates.as_ref()?.get(&key(reference)).copied();
        let (dated, others): (Vec<_>, Vec<_>) =
            references.into_iter().partition(|reference| date(reference).is_some());
        let latest = dated.into_iter().max_by_key(|reference| (date(reference), reference.name.clone()));
        let made = latest.as_ref().and_then(date).unwrap_or(i64::MIN);
        let others: Vec<_> = others.iter().map(|reference| self.offer(reference)).collect();
        // The one found last comes first.
        let bad = self.question.state.bad.iter().find(|bad| others.contains(&bad.offer));
        let newer = bad.filter(|bad| bad.at > made).cloned();
        match (latest, newer) {
            (None, Some(bad)) => Err(bad.into()),
            (latest, newer) => {
                self.perhaps_newer = newer;
                latest.ok_or(Failure::TooManyTags(0))
            }
        }
    }

    /// Asks when these were made: without their files where the server can leave them out, otherwise one by one, each within the limits
    /// of a version. On connections of their own: before version 2 of the protocol each serves for one fetch.
    fn date(&mut self, unknown: &[Reference], secret: &Secret) -> Result<(), Failure> {
        let mut rest = unknown;
        while !rest.is_empty() {
            let spec = &self.question.spec;
            let mut session = Session::open(&spec.git.url, secret)?;
            let with_files = !session.can_leave_out_files();
            let (now, later) = rest.split_at(if with_files { 1 } else { rest.len() });
            if with_files {
                self.is_about(&now[0]);
                self.say();
            }
            let wanted: Vec<_> = now.iter().map(|reference| reference.object).collect();
            let into = self.question.work.join("dates");
            let fetched = session.fetch(&wanted, with_files, &into, &self.question.spec.limits);
            match fetched.map_err(Failure::from) {
                Ok(objects) => {
                    for reference in now {
                        let date = date(&objects, reference.object).unwrap_or(i64::MIN);
                        self.report.dates.get_or_insert_default().insert(key(reference), date);
                    }
                }
                Err(failure) if with_files && failure.reason().is_of_version() => {
                    self.refuse(&now[0], &failure);
                }
                Err(failure) => return Err(failure),
            }
            remove(&into)?;
            rest = later;
        }
        Ok(())
    }

    /// Notes that one of several tags is bad. The round goes on, about another.
    fn refuse(&mut self, reference: &Reference, failure: &Failure) {
        let (reason, at) = (Told::from(failure).message, Timestamp::now().as_second());
        let bad = Bad { offer: self.offer(reference), reason, at };
        self.question.state.refuse(bad.clone());
        self.report.bad.push(bad);
        self.report.offer = None;
    }

    /// Fetches a version and checks all that can be checked before anybody sees it.
    fn make(&self, session: &mut Session, reference: &Reference) -> Result<Outcome, Failure> {
        let Question { spec: SyncSpec { git, limits, require_checksums, .. }, work, .. } = &self.question;
        let objects = session.fetch(&[reference.object], true, &work.join("objects"), limits)?;
        signature::verify(&objects, reference, &git.signed_by)?;
        let made = work.join("tree");
        fs::create_dir(&made).map_err(|error| Failure::Disk { what: "make a directory", error })?;
        let budget = Budget::new(limits);
        let used = checkout(&objects, reference.commit, git.directory.as_deref(), &made, budget)?;
        checksums::verify(&made, *require_checksums)?;
        Ok(Outcome::Made { files: used.files(), bytes: used.bytes() })
    }
}

fn key(reference: &Reference) -> String {
    reference.object.to_string()
}

/// Those of a directory stay where they are.
fn remove(objects: &std::path::Path) -> Result<(), Failure> {
    match fs::remove_dir_all(objects) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::Disk { what: "empty the work directory", error })
        }
        _ => Ok(()),
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
