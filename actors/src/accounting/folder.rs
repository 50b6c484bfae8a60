//! The journal's folder: one process at a time, one file a segment (`0000000001.seg`).
//!
//! Is: every file operation of the journal. Is not: on a request's path, but for the one write that appends.

use obleth_core::ledger::journal::{
    HeaderFault, Journal, Limits, Replay, Stretch, Unwritten, WhenFull, header,
};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest segment; a small journal has smaller ones.
const SEGMENT: u64 = 16 << 20;
/// What may wait in memory while the disk takes nothing.
const OVERFLOW: usize = 16 << 20;

/// How long the folder may still be another process's that is ending, and how often that is looked at.
const ENDING: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// When rows reach the disk and not only the kernel: what a power cut can cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Every 50 ms.
    #[default]
    Interval,
    /// Before the end of an answer leaves.
    Always,
    /// When the kernel likes.
    Never,
}

/// Where and how the journal is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    pub folder: PathBuf,
    /// All segments together.
    pub max_bytes: u64,
    pub sync: Sync,
    pub when_full: WhenFull,
}

impl JournalSettings {
    /// A journal of the usual size in `folder`.
    pub const fn new(folder: PathBuf) -> Self {
        Self { folder, max_bytes: 1 << 30, sync: Sync::Interval, when_full: WhenFull::Refuse }
    }

    fn limits(&self) -> Limits {
        Limits {
            max_bytes: self.max_bytes,
            segment_bytes: (self.max_bytes / 8).min(SEGMENT),
            overflow_bytes: OVERFLOW,
            when_full: self.when_full,
        }
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{0} is the journal of another obleth; set OBLETH_JOURNAL_DIR, each process needs its own")]
    Taken(PathBuf),
    #[error("cannot use the journal in {0}: {1}")]
    Files(PathBuf, io::Error),
    #[error("{0}: {1}")]
    Format(PathBuf, HeaderFault),
}

/// The folder, locked.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    segment_bytes: u64,
    /// Held as long as the folder is used; the kernel gives it back, however the process ends.
    _lock: File,
}

/// A journal that is ready to be written to.
#[derive(Debug)]
pub struct OpenJournal {
    pub(super) folder: Folder,
    pub(super) journal: Journal,
    /// The newest segment.
    pub(super) file: Arc<File>,
    pub(super) sync: Sync,
}

impl OpenJournal {
    /// Locks the folder, reads what an earlier process left, and begins a new segment.
    pub fn open(settings: &JournalSettings) -> Result<Self, JournalError> {
        let path = &settings.folder;
        let failed = |error| JournalError::Files(path.clone(), error);
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = lock(path)?;
        let limits = settings.limits();
        let folder = Folder { path: path.clone(), segment_bytes: limits.segment_bytes, _lock: lock };
        let replay = folder.replay()?;
        let file = folder.create(replay.next_number()).map_err(failed)?;
        let mut journal = replay.finish(limits);
        append(&file, &mut journal);
        file.sync_data().map_err(failed)?;
        Ok(Self { folder, journal, file: Arc::new(file), sync: settings.sync })
    }
}

/// Takes the folder. A process that is just ending is given a moment.
fn lock(path: &Path) -> Result<File, JournalError> {
    let failed = |error| JournalError::Files(path.to_owned(), error);
    let file = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
    let file = file.map_err(failed)?;
    let until = Instant::now() + ENDING;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => return Err(JournalError::Taken(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Hands the file what it does not have yet.
pub(super) fn append(file: &File, journal: &mut Journal) {
    while let Some(Unwritten { offset, bytes }) = journal.unwritten() {
        match file.write_at(bytes, offset) {
            Ok(0) => return journal.write_failed(),
            Ok(taken) => journal.wrote(taken),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return journal.write_failed(),
        }
    }
}

impl Folder {
    fn file_of(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:010}.seg"))
    }

    /// The segments that are there, oldest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads every segment. What was torn off at the end of the last one is cut off.
    fn replay(&self) -> Result<Replay, JournalError> {
        let mut replay = Replay::default();
        let numbers = self.numbers().map_err(|error| JournalError::Files(self.path.clone(), error))?;
        for number in &numbers {
            let path = self.file_of(*number);
            let failed = |error| JournalError::Files(path.clone(), error);
            let bytes = std::fs::read(&path).map_err(failed)?;
            let valid = replay.segment(*number, &bytes, numbers.last() == Some(number));
            let valid = valid.map_err(|fault| JournalError::Format(path.clone(), fault))?;
            if valid < bytes.len() {
                let file = File::options().write(true).open(&path).map_err(failed)?;
                file.set_len(u64::try_from(valid).unwrap_or(u64::MAX)).map_err(failed)?;
            }
        }
        Ok(replay)
    }

    /// A new segment with its header. Its room is set aside at once, where the file system can: the disk is then
    /// full before a segment begins rather than in the middle of one.
    pub fn create(&self, number: u64) -> io::Result<File> {
        let path = self.file_of(number);
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        let made = match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, self.segment_bytes) {
            Err(rustix::io::Errno::NOSPC) => Err(io::Error::from(rustix::io::Errno::NOSPC)),
            _ => file.write_all_at(&header(), 0),
        };
        if let Err(error) = made {
            // Without its header it would be read as damaged later.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        File::open(&self.path)?.sync_all()?;
        Ok(file)
    }

    /// All of a segment.
    pub fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        std::fs::read(self.file_of(number))
    }

    /// Part of a stretch, at most `limit` bytes.
    pub fn read_stretch(&self, stretch: &Stretch, limit: u64) -> io::Result<Vec<u8>> {
        let length = stretch.until.saturating_sub(stretch.from.offset).min(limit);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        File::open(self.file_of(stretch.from.segment))?.read_exact_at(&mut bytes, stretch.from.offset)?;
        Ok(bytes)
    }

    pub fn remove(&self, number: u64) {
        if let Err(error) = std::fs::remove_file(self.file_of(number)) {
            tracing::warn!(%error, number, "a segment of the journal cannot be removed");
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
