//! One file that is followed: how far it was read, and reading on.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::SeekFrom;

use crate::checkpoint::Entry;
use crate::convert::{Converter, Raw};
use crate::discover::modified;
use crate::frame::{Carry, Flush, Step};
use crate::identity::{Generation, Inode, PRINT_BYTES, Print};
use crate::metrics::Progress;
use crate::sink;
use crate::source::Source;
use crate::time::{Clock, Timestamp};

/// Read at a time. Larger than the longest line, so that there is always one to be found.
const CHUNK: usize = 256 * 1024;
/// Written at a time, when so much has come together.
const BATCH: usize = 256 * 1024;
/// How long an event waits for lines that could belong to it.
const HOLD_LINES: Duration = Duration::from_secs(1);
/// How long a line waits for its end.
const HOLD_PARTIAL: Duration = Duration::from_secs(10);

/// One file.
#[derive(Debug)]
pub(crate) struct Followed {
    /// Index of its source.
    pub(crate) source: usize,
    /// Its name when it was found, below the source's directory. It stays when rotation gives it another one.
    pub(crate) name: String,
    pub(crate) inode: Inode,
    pub(crate) generation: Generation,
    /// None where it is kept in mind only, so that it is not read again.
    pub(crate) open: Option<Arc<Progress>>,
    /// How far it was written out.
    pub(crate) offset: u64,
    pub(crate) head: Print,
    pub(crate) tail: Print,
    pub(crate) carry: Carry,
    /// Whether it is a copy of a file that is read itself.
    pub(crate) copy: bool,
    /// Whether it has its name still.
    pub(crate) at_home: bool,
    /// Size and time of the last change, at the last look.
    pub(crate) size: u64,
    pub(crate) modified: i64,
    /// When the generation before it was last written to, in nanoseconds since the epoch. What is younger and unknown was missed.
    pub(crate) since: i64,
    /// When size and time changed.
    pub(crate) grown: Instant,
    /// What was flushed since.
    flushed: Flush,
    converter: Converter,
}

/// What a look at a file has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing new.
    Idle,
    /// Its first bytes are there. They are to be in the checkpoint before they are read: whoever is killed then and finds them in a copy
    /// knows of what.
    Begun,
    /// Something was read; there may be more.
    Read,
    /// It is shorter than it was, or begins differently: it was truncated.
    Truncated,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The file can't be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Nobody takes our output.
    #[error(transparent)]
    Write(io::Error),
}

/// What every file is read and written through, one after the other.
#[derive(Debug)]
pub(crate) struct Pump {
    input: Vec<u8>,
    output: Vec<u8>,
    sink: File,
    /// Bytes written out since the last checkpoint.
    pub(crate) unconfirmed: u64,
}

impl Pump {
    pub(crate) fn new(sink: File) -> Self {
        Self { input: vec![0; CHUNK], output: Vec::with_capacity(BATCH), sink, unconfirmed: 0 }
    }
}

impl Followed {
    /// A file to be read from its start.
    pub(crate) fn new(source: usize, name: String, file: File, converter: Converter) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let inode = Inode::of(&metadata);
        let mut new = Self {
            source,
            name,
            inode,
            generation: Generation::begun(inode),
            offset: 0,
            head: Print::default(),
            open: Some(Arc::new(Progress { file, offset: AtomicU64::new(0) })),
            tail: Print::default(),
            carry: Carry::Start,
            copy: false,
            at_home: true,
            size: 0,
            modified: modified(&metadata),
            since: i64::MIN,
            grown: Instant::now(),
            flushed: Flush::No,
            converter,
        };
        new.learn();
        Ok(new)
    }

    /// Goes on where `entry` says. Sizes are looked at anew, so it is read at the next look.
    pub(crate) fn resume(&mut self, entry: &Entry) {
        (self.offset, self.head, self.tail) = (entry.offset, entry.head, entry.tail);
        (self.carry, self.copy, self.since) = (entry.carry, entry.copy, entry.since);
        self.generation = entry.generation;
        self.learn();
        self.publish();
    }

    /// Starts anew, after it was truncated.
    pub(crate) fn restart(&mut self) {
        (self.offset, self.size, self.carry) = (0, 0, Carry::Start);
        (self.head, self.tail) = (Print::default(), Print::default());
        self.since = self.modified;
        self.generation = Generation::begun(self.inode);
        self.learn();
        self.publish();
    }

    /// Learns how a file begins that was empty so far; whether it did. Not when it is read: it may be copied and cut before.
    pub(crate) fn learn(&mut self) -> bool {
        if self.head.length > 0 || self.offset > 0 {
            return false;
        }
        let head = self.open.as_ref().and_then(|open| Print::begin(&open.file).ok());
        self.head = head.unwrap_or_default();
        self.head.length > 0
    }

    /// Goes on as a file of another source, as a changed config has it.
    pub(crate) fn hand_over(&mut self, source: usize, converter: Converter) {
        (self.source, self.converter) = (source, converter);
    }

    /// Keeps it in mind as a copy, as long as it is now, and does not read it.
    pub(crate) fn keep_as_copy(&mut self, size: u64) {
        (self.copy, self.at_home, self.open, self.offset) = (true, false, None, size);
    }

    /// Whether it is not what it was: shorter, or with other bytes where we have read.
    pub(crate) fn is_cut(&self) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let file = &open.file;
        let size = file.metadata()?.len();
        Ok(size < self.offset || !self.head.matches(file)? || !self.tail.matches(file)?)
    }

    /// Whether it has no name at all any more.
    pub(crate) fn is_deleted(&self) -> bool {
        let metadata = self.open.as_ref().and_then(|open| open.file.metadata().ok());
        metadata.is_some_and(|metadata| metadata.nlink() == 0)
    }

    pub(crate) fn entry(&self, source: &Source) -> Entry {
        Entry {
            directory: source.directory.clone(),
            name: self.name.clone(),
            inode: self.inode,
            generation: self.generation,
            offset: self.offset,
            head: self.head,
            tail: self.tail,
            carry: self.carry,
            copy: self.copy,
            rotated: !self.at_home,
            modified: self.modified,
            since: self.since,
        }
    }

    fn publish(&self) {
        if let Some(progress) = &self.open {
            progress.offset.store(self.offset, Relaxed);
        }
    }

    /// Looks at the file and reads on, at most one chunk. `last`: nothing will follow, so nothing is held back.
    pub(crate) fn look(&mut self, source: &Source, pump: &mut Pump, last: bool) -> Result<Look, LookError> {
        let Some(progress) = self.open.clone() else { return Ok(Look::Idle) };
        let file = &progress.file;
        let metadata = file.metadata()?;
        let (size, time) = (metadata.len(), modified(&metadata));
        if size < self.offset {
            return Ok(Look::Truncated);
        }
        let known = (self.size, self.modified);
        let changed = (size, time) != known;
        if changed {
            (self.size, self.modified) = (size, time);
            (self.grown, self.flushed) = (Instant::now(), Flush::No);
        }
        let flush = if last { Flush::All } else { self.flush_due() };
        if !changed && (size == self.offset || flush <= self.flushed) {
            return Ok(Look::Idle);
        }
        let read = read_at(file, &mut pump.input, self.offset)?;
        // After the read, so that what was read is of the file that we think it is, whatever happened before.
        if self.is_cut()? {
            // What is known of it is of the file as it was.
            (self.size, self.modified) = known;
            return Ok(Look::Truncated);
        }
        if self.learn() {
            (self.size, self.modified) = known;
            return Ok(Look::Begun);
        }
        // Zeros at the end are not written yet, whatever follows them later.
        let written = read - pump.input[..read].iter().rev().take_while(|byte| **byte == 0).count();
        // Behind a whole chunk there is more: its last line has its end there.
        let flush = if written == CHUNK { Flush::No } else { flush };
        self.flushed = flush;
        let before = self.offset;
        let input = std::mem::take(&mut pump.input);
        let result = self.take(&input[..written], source, pump, flush);
        pump.input = input;
        result.map_err(LookError::Write)?;
        if self.offset == before && read == CHUNK {
            self.skip_hole(file)?;
        }
        if self.offset == before {
            return Ok(Look::Idle);
        }
        // More than a chunk was there: the look is not over.
        if read == CHUNK {
            self.size = self.offset;
        }
        Ok(Look::Read)
    }

    fn flush_due(&self) -> Flush {
        match self.grown.elapsed() {
            held if held >= HOLD_PARTIAL => Flush::All,
            held if held >= HOLD_LINES => Flush::Lines,
            _ => Flush::No,
        }
    }

    /// Writes out the events in `read`, which begins at our offset.
    fn take(&mut self, read: &[u8], source: &Source, pump: &mut Pump, flush: Flush) -> io::Result<()> {
        // Ours only when what was read so far is out: a write that fails leaves both as they were.
        let mut carry = self.carry;
        let (start, mut at, mut confirmed) = (self.offset, 0, 0);
        let observed = now();
        let clock = Clock { utc_offset: source.config.utc_offset, now: observed.seconds };
        loop {
            let event = match source.framer.step(read, at, flush, &mut carry) {
                Step::Event(event) => event,
                Step::Skip(next) => {
                    at = next;
                    continue;
                }
                Step::Wait => break,
            };
            if self.converter.is_undecided()
                && let Some(format) = self.converter.decide(&read[at..], clock)
            {
                tracing::info!(file = source.shown(&self.name), format, "format decided from the lines");
            }
            let raw = Raw {
                bytes: &read[event.text],
                generation: self.generation,
                offset: start + at as u64,
                truncated: event.truncated,
                partial: event.partial,
            };
            let marks = self.converter.convert(&mut pump.output, raw, clock, observed);
            source.metrics.count(marks);
            at = event.next;
            if pump.output.len() >= BATCH {
                self.write_out(&read[confirmed..at], carry, pump, source)?;
                confirmed = at;
            }
        }
        if at > confirmed { self.write_out(&read[confirmed..at], carry, pump, source) } else { Ok(()) }
    }

    /// Writes the lines that came of `taken`, which ends at `carry` in a line; only when the sink has them does the file count as read so
    /// far.
    fn write_out(&mut self, taken: &[u8], carry: Carry, pump: &mut Pump, source: &Source) -> io::Result<()> {
        let written = sink::write_all(&mut pump.sink, &pump.output);
        pump.output.clear();
        written?;
        // Of the bytes that were read and not of the file, which may have been cut meanwhile.
        self.head = self.head.extended(self.offset, taken);
        self.offset += taken.len() as u64;
        self.carry = carry;
        self.tail = Print::before(self.offset, taken);
        pump.unconfirmed += taken.len() as u64;
        source.metrics.bytes.fetch_add(taken.len() as u64, Relaxed);
        self.publish();
        Ok(())
    }

    /// Moves to where the next data is, if there is any. What lies between are zeros that nobody wrote: copytruncate's, which may
    /// be longer than the disk.
    fn skip_hole(&mut self, file: &File) -> io::Result<()> {
        let mut at = match rustix::fs::seek(file, SeekFrom::Data(self.offset)) {
            Ok(at) => at.max(self.offset),
            // No data any more, or a file system that can't tell.
            Err(_) => return Ok(()),
        };
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = read_at(file, &mut chunk, at)?;
            match chunk[..read].iter().position(|byte| *byte != 0) {
                Some(zeros) => {
                    let data = at + zeros as u64;
                    let hole = usize::try_from(data - self.offset).unwrap_or(PRINT_BYTES);
                    self.head = self.head.extended(self.offset, &[0; PRINT_BYTES][..hole.min(PRINT_BYTES)]);
                    self.offset = data;
                    self.publish();
                    return Ok(());
                }
                None if read == 0 => return Ok(()),
                None => at += read as u64,
            }
        }
    }

    /// Whether nothing has come for that long.
    pub(crate) fn is_quiet(&self, quiet: Duration) -> bool {
        self.grown.elapsed() >= quiet
    }
}

fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn now() -> Timestamp {
    // A clock before 1970 is no clock.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    Timestamp { seconds, nanos: since.subsec_nanos(), digits: 3 }
}
