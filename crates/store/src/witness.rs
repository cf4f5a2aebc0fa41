//! The witness: a small file beside the database with the number of batches that were reported.
//!
//! A counter inside the database goes back with the database: if its journal is emptied or damaged,
//! SQLite gives back an older state that is consistent. The witness does not go back with it, so
//! the difference is found.
//!
//! Invariants:
//! - it is written after each commit and before the commit is reported, so it never counts more
//!   batches than were committed;
//! - it is one write of less than a sector, in place, so it is stored as a whole or not at all;
//! - its lock is held as long as the store is open. Closing another descriptor does not end it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::modes::{self, FILE_MODE};
use crate::options::Durability;

/// The file's name in the directory. It begins as the database's does, because earlier versions of
/// the program leave such files alone.
pub(crate) const WITNESS: &str = "histories.sqlite-witness";

/// The first number of each witness.
const MAGIC: u64 = u64::from_le_bytes(*b"thrgwit1");

/// The numbers in the file: five, and a checksum as the sixth.
const NUMBERS: usize = 6;

/// The part that is there of everything that was ever reported as committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// Everything.
    Everything,
    /// All but the last batches: the database or its journal was set back, emptied or damaged.
    AllBut {
        /// The number of missing batches.
        missing: u64,
    },
    /// Unknown: the witness is missing or unreadable, or it belongs to another database.
    Nothing,
    /// Unknown, and no damage: only versions of the program without a witness have had the
    /// directory. Now there is a witness.
    NoWitness,
}

/// The time, on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The time by which histories age, in milliseconds, as in
    /// [`Change::Publication`](crate::Change::Publication).
    pub age_ms: u64,
    /// The time of day, in Unix milliseconds.
    pub unix_ms: u64,
}

/// The contents of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Testimony {
    /// The identity of the store.
    identity: i64,
    /// The number of batches that were reported.
    commits: i64,
    clock: Clock,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    found: Found,
}

/// The contents that were found on opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Nonsense,
    Testimony(Testimony),
}

impl Witness {
    /// Opens the file in the directory, or creates it, and takes its lock.
    ///
    /// # Errors
    ///
    /// The system's error; [`ErrorKind::ResourceBusy`] if somebody else has the lock.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(WITNESS);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(FILE_MODE);
        let file = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = options.create_new(true).open(&path)?;
                modes::set(&path, FILE_MODE)?;
                File::open(directory)?.sync_all()?;
                file
            }
            opened => opened?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::ResourceBusy.into()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        let found = read(&file)?;
        Ok(Self { file, found })
    }

    /// Compares the file with a database of this identity and this number of commits.
    ///
    /// `knows_witness`: a version of the program that has witnesses wrote to the database.
    pub(crate) fn compare(&self, identity: i64, commits: i64, knows_witness: bool) -> Vouched {
        match self.found {
            Found::Nothing if !knows_witness => Vouched::NoWitness,
            Found::Nothing if commits == 0 => Vouched::Everything,
            Found::Nothing | Found::Nonsense => Vouched::Nothing,
            Found::Testimony(said) if said.identity == identity || commits == 0 => {
                match u64::try_from(said.commits - commits) {
                    Ok(missing @ 1..) => Vouched::AllBut { missing },
                    _ => Vouched::Everything,
                }
            }
            Found::Testimony(_) => Vouched::Nothing,
        }
    }

    /// Returns the number of batches that were reported, as far as the file says so.
    pub(crate) const fn commits(&self) -> i64 {
        match self.found {
            Found::Testimony(said) => said.commits,
            Found::Nothing | Found::Nonsense => 0,
        }
    }

    /// Returns the time when the file was last written.
    pub(crate) const fn clock(&self) -> Option<Clock> {
        match self.found {
            Found::Testimony(said) => Some(said.clock),
            Found::Nothing | Found::Nonsense => None,
        }
    }

    /// Writes the number of committed batches. Costs one write into the page cache; a synced batch
    /// also waits for the disk.
    pub(crate) fn write(
        &mut self,
        identity: i64,
        commits: i64,
        clock: Clock,
        durability: Durability,
    ) -> io::Result<()> {
        let said = Testimony {
            identity,
            commits,
            clock,
        };
        self.put(said)?;
        if durability == Durability::Synced {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Writes the time, and leaves the rest as it is. Does nothing if there is no rest yet.
    pub(crate) fn note(&mut self, clock: Clock) -> io::Result<()> {
        match self.found {
            Found::Testimony(said) => self.put(Testimony { clock, ..said }),
            Found::Nothing | Found::Nonsense => Ok(()),
        }
    }

    fn put(&mut self, said: Testimony) -> io::Result<()> {
        self.file.write_all_at(&said.encode(), 0)?;
        self.found = Found::Testimony(said);
        Ok(())
    }
}

fn read(file: &File) -> io::Result<Found> {
    let mut bytes = [0; NUMBERS * 8];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Testimony::decode(&bytes).map_or(Found::Nonsense, Found::Testimony)),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        Err(_) if file.metadata()?.len() == 0 => Ok(Found::Nothing),
        Err(_) => Ok(Found::Nonsense),
    }
}

impl Testimony {
    fn encode(self) -> [u8; NUMBERS * 8] {
        let numbers = [
            MAGIC,
            self.identity.cast_unsigned(),
            self.commits.cast_unsigned(),
            self.clock.age_ms,
            self.clock.unix_ms,
        ];
        let mut bytes = [0; NUMBERS * 8];
        let (places, _) = bytes.as_chunks_mut::<8>();
        for (place, number) in places.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        let crc = u64::from(crc32fast::hash(&bytes[..(NUMBERS - 1) * 8]));
        bytes[(NUMBERS - 1) * 8..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; NUMBERS * 8]) -> Option<Self> {
        let number = |index: usize| {
            let (places, _) = bytes.as_chunks::<8>();
            u64::from_le_bytes(places[index])
        };
        let said = Self {
            identity: number(1).cast_signed(),
            commits: number(2).cast_signed(),
            clock: Clock {
                age_ms: number(3),
                unix_ms: number(4),
            },
        };
        (said.commits >= 0 && said.encode() == *bytes).then_some(said)
    }
}
