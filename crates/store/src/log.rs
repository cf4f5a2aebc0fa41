//! The log: numbered files that frames are appended to, and that are forgotten from the oldest on.
//!
//! - Only the newest is appended to. When it is long enough it is synced, and only then is the next created: of
//!   all but the newest, every frame is whole or the disk has changed it.
//! - A segment is needed until a frame says that it is not, and that frame is synced before the file goes.
//! - What is behind the last whole frame of the newest was never synced, and is cut off when the log is opened
//!   to be appended to. Reading changes nothing.
//!
//! ```text
//! segment     magic: 8 bytes │ number: u32 │ oldest needed: u32 │ checksum: u32 │ frame …
//! ```

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::Damage;
use crate::frame::{Frame, FrameHead, Written};

/// The segments, open to append to.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    segments: VecDeque<Segment>,
    /// The newest one's file.
    file: File,
}

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    number: u32,
    /// How many bytes it has.
    bytes: u64,
}

/// A log that was read, and nothing in its directory touched.
#[derive(Debug)]
pub(crate) struct Found {
    directory: PathBuf,
    /// Those that are needed, up to the last whole frame.
    segments: VecDeque<Segment>,
    /// Files that are no longer needed, or are not a segment yet.
    superfluous: Vec<u32>,
}

/// Why a log could not be read.
#[derive(Debug)]
pub(crate) enum LogError {
    Damaged(Damage),
    Io(io::Error),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Found {
    /// Reads the log in a directory, if there is one, and calls `each` with the number of a segment and
    /// each of its frames, in their order.
    pub(crate) fn read(
        directory: &Path,
        mut each: impl FnMut(u32, Written<'_>) -> Result<(), Damage>,
    ) -> Result<Self, LogError> {
        let mut found = Self {
            directory: directory.to_owned(),
            segments: VecDeque::new(),
            superfluous: Vec::new(),
        };
        let mut numbers = numbers(directory)?;
        let Some((newest, bytes)) = found.newest(&mut numbers)? else {
            return Ok(found);
        };
        let (oldest, end) = oldest_and_end(newest, &bytes)?;
        let mut expected = oldest;
        for number in numbers {
            if number < oldest {
                found.superfluous.push(number);
                continue;
            }
            if number != expected {
                return Err(LogError::Damaged(Damage::Missing { number: expected }));
            }
            let bytes = fs::read(path(directory, number))?;
            found.read_segment(number, &bytes, &mut each)?;
            expected += 1;
        }
        if expected != newest {
            return Err(LogError::Damaged(Damage::Missing { number: expected }));
        }
        found.read_segment(newest, &bytes[..end], &mut each)?;
        Ok(found)
    }

    /// Takes the newest segment off the list, and reads its file. One that was being created when the process
    /// ended is none yet: nothing is appended before its head is synced.
    fn newest(&mut self, numbers: &mut Vec<u32>) -> io::Result<Option<(u32, Vec<u8>)>> {
        while let Some(number) = numbers.pop() {
            let bytes = fs::read(path(&self.directory, number))?;
            if bytes.len() > SEGMENT_HEAD_BYTES || read_head(number, &bytes).is_some() {
                return Ok(Some((number, bytes)));
            }
            self.superfluous.push(number);
        }
        Ok(None)
    }

    fn read_segment(
        &mut self,
        number: u32,
        bytes: &[u8],
        each: &mut impl FnMut(u32, Written<'_>) -> Result<(), Damage>,
    ) -> Result<(), LogError> {
        read_frames(number, bytes, |frame| each(number, frame)).map_err(LogError::Damaged)?;
        self.segments.push_back(Segment {
            number,
            bytes: bytes.len() as u64,
        });
        Ok(())
    }

    /// The number of the oldest segment that is needed.
    pub(crate) fn oldest(&self) -> u32 {
        self.segments
            .front()
            .map_or(FIRST, |segment| segment.number)
    }

    /// Opens the log to append to it. What is behind the last whole frame is cut off.
    pub(crate) fn open(self) -> io::Result<Log> {
        for number in self.superfluous {
            fs::remove_file(path(&self.directory, number))?;
        }
        let Some(newest) = self.segments.back() else {
            return Log::create(&self.directory);
        };
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .open(path(&self.directory, newest.number))?;
        // Synced, cut or not: from now on it counts as what was committed.
        file.set_len(newest.bytes)?;
        file.sync_all()?;
        Ok(Log {
            directory: self.directory,
            segments: self.segments,
            file,
        })
    }
}

impl Log {
    fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let file = create_segment(directory, FIRST, FIRST)?;
        Ok(Self {
            directory: directory.to_owned(),
            segments: VecDeque::from([Segment::new(FIRST)]),
            file,
        })
    }

    /// Appends a frame: one system call. Behind an error, nothing may be appended before the log is opened
    /// again: a part of the frame may be there.
    pub(crate) fn append(&mut self, frame: &mut Frame, head: FrameHead) -> io::Result<()> {
        let bytes = frame.seal(self.newest(), head);
        self.file.write_all(bytes)?;
        if let Some(newest) = self.segments.back_mut() {
            newest.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Waits until the disk has everything.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Begins another segment if the newest has so many bytes.
    pub(crate) fn rotate(&mut self, segment_bytes: u64) -> io::Result<()> {
        if self
            .segments
            .back()
            .is_some_and(|newest| newest.bytes < segment_bytes)
        {
            return Ok(());
        }
        self.file.sync_all()?;
        let number = self.newest().checked_add(1);
        let number = number.ok_or_else(|| io::Error::other("the log has had 2^32 files"))?;
        self.file = create_segment(&self.directory, number, self.oldest())?;
        self.segments.push_back(Segment::new(number));
        Ok(())
    }

    /// The segment that is appended to.
    pub(crate) fn newest(&self) -> u32 {
        self.segments.back().map_or(FIRST, |segment| segment.number)
    }

    /// The segment that is forgotten next.
    pub(crate) fn oldest(&self) -> u32 {
        self.segments
            .front()
            .map_or(FIRST, |segment| segment.number)
    }

    /// How many bytes all segments have.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// What is in the oldest segment's file.
    pub(crate) fn read_oldest(&self) -> io::Result<Vec<u8>> {
        fs::read(path(&self.directory, self.oldest()))
    }

    /// Forgets the segments before this one. A synced frame has said so.
    pub(crate) fn forget_before(&mut self, number: u32) -> io::Result<()> {
        while let Some(oldest) = self
            .segments
            .pop_front_if(|segment| segment.number < number)
        {
            fs::remove_file(path(&self.directory, oldest.number))?;
        }
        Ok(())
    }
}

impl Segment {
    fn new(number: u32) -> Self {
        Self {
            number,
            bytes: SEGMENT_HEAD_BYTES as u64,
        }
    }
}

/// Calls `each` with every frame of a segment, of which there is no more than its frames.
pub(crate) fn read_frames<'a>(
    number: u32,
    bytes: &'a [u8],
    mut each: impl FnMut(Written<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let damaged = || Damage::Segment { number };
    read_head(number, bytes).ok_or_else(damaged)?;
    let mut rest = &bytes[SEGMENT_HEAD_BYTES..];
    while !rest.is_empty() {
        each(Written::read(number, &mut rest).ok_or_else(damaged)?)?;
    }
    Ok(())
}

/// The oldest segment that is needed, as the newest says, and where that one's last whole frame ends.
fn oldest_and_end(newest: u32, bytes: &[u8]) -> Result<(u32, usize), LogError> {
    let damaged = || LogError::Damaged(Damage::Segment { number: newest });
    let mut oldest = read_head(newest, bytes).ok_or_else(damaged)?;
    let mut rest = &bytes[SEGMENT_HEAD_BYTES..];
    while let Some(frame) = Written::read(newest, &mut rest) {
        oldest = frame.head.oldest;
    }
    if oldest > newest {
        return Err(damaged());
    }
    Ok((oldest, bytes.len() - rest.len()))
}

/// The numbers of all files that are named like segments, ascending.
fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(numbers),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        numbers.extend(number.and_then(|number| number.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn create_segment(directory: &Path, number: u32, oldest: u32) -> io::Result<File> {
    // Of one that was half created before nothing is needed.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = options.open(path(directory, number))?;
    let mut head = [0; SEGMENT_HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&number.to_le_bytes());
    head[12..16].copy_from_slice(&oldest.to_le_bytes());
    let checksum = crc32fast::hash(&head[..16]);
    head[16..].copy_from_slice(&checksum.to_le_bytes());
    file.write_all(&head)?;
    file.sync_all()?;
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// The oldest segment that was needed when this one was begun. None, if its head is not whole.
fn read_head(number: u32, bytes: &[u8]) -> Option<u32> {
    let head = bytes.first_chunk::<SEGMENT_HEAD_BYTES>()?;
    let (fields, checksum) = head.split_first_chunk::<16>()?;
    let whole = fields.starts_with(MAGIC)
        && fields[8..12] == number.to_le_bytes()
        && *checksum == crc32fast::hash(fields).to_le_bytes();
    whole.then(|| u32::from_le_bytes([fields[12], fields[13], fields[14], fields[15]]))
}

fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:010}{SUFFIX}"))
}

const MAGIC: &[u8; 8] = b"thrlog\0\x01";
const SUFFIX: &str = ".log";
/// The number of the first segment that there ever is.
const FIRST: u32 = 1;
/// Magic, number, the oldest segment, checksum.
const SEGMENT_HEAD_BYTES: usize = 20;
