//! The journal in its cell: what handlers and the actor share.

use super::folder::{Folder, OpenJournal, Sync, append};
use super::{BATCH, NAME};
use crate::cell::{Cell, Contained, Heal};
use obleth_core::ledger::journal::{Full, Journal, Stretch, read_rows};
use obleth_core::ledger::{Counts, LedgerRow};
use obleth_schema::ledger::LedgerRecord;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tokio::sync::{Notify, watch};

/// Bytes read for one batch, as a rule.
const STRETCH: u64 = 1 << 20;

/// The books and the file they go to.
pub(super) struct Books {
    pub journal: Journal,
    file: Arc<File>,
}

impl Heal for Books {
    fn heal(&mut self) {
        self.journal.resume();
    }
}

impl Books {
    /// Appends what waits. A disk that took nothing is asked again by the actor alone.
    fn write(&mut self) {
        if !self.journal.is_failing() {
            append(&self.file, &mut self.journal);
        }
    }
}

/// How far the disk is.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// Everything appended before this position is on the disk.
    position: u64,
    /// The kernel or the disk takes nothing: waiting for it would have no end.
    failing: bool,
    sync_failed: bool,
}

/// A place in the journal that an answer may have to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written(u64);

/// Rows on their way to the database.
pub(super) struct Batch {
    pub records: Vec<LedgerRecord>,
    pub consumed: usize,
    pub damaged: u64,
}

/// Shared by the handle and the actor.
pub(super) struct Ledger {
    pub cell: Cell<Books>,
    folder: Folder,
    pub sync: Sync,
    reached: watch::Sender<Reached>,
    /// One sync at a time, and none while a segment follows another: a position is reached in both files.
    syncing: Mutex<()>,
    /// One look after the segments at a time.
    keeping: Mutex<()>,
    /// Somebody waits for a sync.
    pub wanted: Notify,
    /// Something was appended since the last look of the actor.
    touched: AtomicBool,
    /// Rows that contained faults kept out of the core; taken in with the next call.
    stranded: Mutex<Vec<Arc<LedgerRow>>>,
    has_stranded: AtomicBool,
    /// Days after which rows leave the database; 0: never.
    pub days_kept: AtomicU32,
}

impl Ledger {
    pub fn new(open: OpenJournal) -> Self {
        let OpenJournal { folder, journal, file, sync } = open;
        let reached =
            Reached { position: journal.positions().1, failing: journal.is_failing(), sync_failed: false };
        Self {
            cell: Cell::new(NAME, Books { journal, file }),
            folder,
            sync,
            reached: watch::channel(reached).0,
            syncing: Mutex::new(()),
            keeping: Mutex::new(()),
            wanted: Notify::new(),
            touched: AtomicBool::new(true),
            stranded: Mutex::new(Vec::new()),
            has_stranded: AtomicBool::new(false),
            days_kept: AtomicU32::new(0),
        }
    }

    /// Calls the core; first hands it what a fault kept out.
    pub fn with<R>(&self, call: impl FnOnce(&mut Books) -> R) -> Result<R, Contained> {
        let mut stranded = if self.has_stranded.swap(false, Ordering::AcqRel) {
            std::mem::take(&mut *self.stranded.lock())
        } else {
            Vec::new()
        };
        let result = self.cell.with(|books| {
            while let Some(row) = stranded.pop() {
                books.journal.close(&row);
            }
            call(books)
        });
        self.strand(stranded);
        result
    }

    /// The same for a call that may be made again: a contained fault does not end it.
    pub fn with_retry<R>(&self, call: impl Fn(&mut Books) -> R) -> Option<R> {
        (0..3).find_map(|_| self.with(&call).ok())
    }

    /// Keeps rows that did not reach the core for the next call.
    fn strand(&self, rows: Vec<Arc<LedgerRow>>) {
        if !rows.is_empty() {
            self.stranded.lock().extend(rows);
            self.has_stranded.store(true, Ordering::Release);
        }
    }

    /// Notes that a request has its seat. Not written yet: it goes with the next row, or within a tick.
    pub fn open(&self, row: &LedgerRow) -> Result<Result<(), Full>, Contained> {
        self.touched.store(true, Ordering::Release);
        self.with(|books| books.journal.open(row))
    }

    /// Takes the row of a request that has ended, and hands it to the kernel. A place to wait for, if the
    /// answer is to wait for the disk.
    pub fn record(&self, row: &Arc<LedgerRow>) -> Option<Written> {
        let (mut taken, mut place) = (false, None);
        for _ in 0..3 {
            let called = self.with(|books| {
                if !std::mem::replace(&mut taken, true) {
                    books.journal.close(row);
                }
                books.write();
                place = Some(Written(books.journal.positions().0));
            });
            if called.is_ok() {
                break;
            }
        }
        if !taken {
            self.strand(vec![Arc::clone(row)]);
        }
        self.touched.store(true, Ordering::Release);
        if self.sync != Sync::Always {
            return None;
        }
        self.wanted.notify_one();
        place
    }

    /// Waits until the disk has everything before `place`; not if it takes nothing.
    pub async fn durable(&self, place: Written) {
        let mut reached = self.reached.subscribe();
        let stuck = |reached: &Reached| reached.failing || reached.sync_failed;
        let there = |reached: &Reached| stuck(reached) || reached.position >= place.0;
        // The sender lives as long as this ledger.
        let _ = reached.wait_for(there).await;
    }

    /// The actor's look, every few milliseconds: opens reach the kernel, a disk that took nothing is asked again.
    pub fn write_out(&self) {
        if self.touched.swap(false, Ordering::AcqRel) {
            let left = self.with_retry(|books| {
                append(&books.file, &mut books.journal);
                books.journal.is_failing()
            });
            if left != Some(false) {
                self.touched.store(true, Ordering::Release);
            }
            let failing = left == Some(true);
            self.reached
                .send_if_modified(|reached| std::mem::replace(&mut reached.failing, failing) != failing);
        }
    }

    /// The actor is to look again.
    pub fn touch(&self) {
        self.touched.store(true, Ordering::Release);
    }

    /// Brings what the kernel has to the disk. Blocks.
    pub fn sync_out(&self) -> io::Result<()> {
        let _alone = self.syncing.lock();
        let at = self.with_retry(|books| {
            books.write();
            (Arc::clone(&books.file), books.journal.positions().1)
        });
        let Some((file, position)) = at else { return Ok(()) };
        if position <= self.reached.borrow().position {
            return Ok(());
        }
        let synced = file.sync_data();
        self.reached.send_modify(|reached| {
            reached.sync_failed = synced.is_err();
            if synced.is_ok() {
                reached.position = reached.position.max(position);
            }
        });
        synced
    }

    /// Begins the next segment. The old one is brought to the disk first: no sync comes to it afterwards.
    fn roll(&self, number: u64) -> io::Result<()> {
        let next = Arc::new(self.folder.create(number)?);
        let _alone = self.syncing.lock();
        let old = self.with_retry(|books| {
            let old = Arc::clone(&books.file);
            // Something may have been appended since it was wanted, and that belongs to the old one.
            books.write();
            let rolled = books.journal.roll(number);
            if rolled {
                books.file = Arc::clone(&next);
            }
            (rolled.then_some(old), books.journal.has_segment(number))
        });
        match old {
            Some((Some(old), _)) if self.sync != Sync::Never => old.sync_data(),
            Some((None, false)) => {
                // It would stand in the way of the next attempt.
                self.folder.remove(number);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Segments: the next one, copies of what still runs, away with what nobody needs. Blocks.
    pub fn keep(&self) -> io::Result<()> {
        // That of an actor that died may still be at it.
        let _alone = self.keeping.lock();
        if let Some(number) = self.with_retry(|books| books.journal.wants_segment()).flatten() {
            self.roll(number)?;
        }
        if let Some(number) = self.with_retry(|books| books.journal.wants_copies()).flatten() {
            let bytes = self.folder.read(number)?;
            self.with_retry(|books| {
                books.journal.copy_opens(number, &bytes);
                books.write();
            });
        }
        let safe = if self.sync == Sync::Never { u64::MAX } else { self.reached.borrow().position };
        let gone = self.with_retry(|books| books.journal.expire(safe)).unwrap_or_default();
        gone.into_iter().for_each(|number| self.folder.remove(number));
        Ok(())
    }

    /// Whether the disk has what the kernel has.
    pub fn is_synced(&self) -> bool {
        let written = self.with_retry(|books| books.journal.positions().1);
        written.is_some_and(|written| written <= self.reached.borrow().position)
    }

    /// Reads a batch from the journal. Blocks.
    pub fn read_batch(&self, stretch: &Stretch) -> io::Result<Option<Batch>> {
        let length = stretch.until.saturating_sub(stretch.from.offset);
        for limit in [STRETCH, u64::MAX] {
            let bytes = self.folder.read_stretch(stretch, limit)?;
            let read = read_rows(&bytes, stretch.sealed && limit >= length, BATCH);
            if read.consumed > 0 {
                let records = read.rows.iter().map(LedgerRecord::from).collect();
                return Ok(Some(Batch { records, consumed: read.consumed, damaged: read.damaged }));
            }
        }
        Ok(None)
    }

    pub fn counts(&self) -> Counts {
        self.with_retry(|books| books.journal.counts()).unwrap_or_default()
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}

#[cfg(test)]
mod tests;
