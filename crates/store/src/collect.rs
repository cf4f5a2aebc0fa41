//! What makes the log short again: segments are forgotten from the oldest on.
//!
//! What is still live in the oldest is appended once more, and then a frame has said that the segment is not
//! needed. What it says of entries that were removed need not be kept: they were put in it, or before it.

use std::collections::HashMap;
use std::io;

use ahash::RandomState;

use crate::codec::EntryKey;
use crate::error::Damage;
use crate::frame::{Frame, FrameHead, Step};
use crate::index::{Location, Rooms};
use crate::log::{Log, read_frames};

/// Forgets segments until the log is short enough: twice what is live, and two segments. So a byte that stays
/// is written again once for each byte that is added, at most.
///
/// # Errors
///
/// What the system says. The log must then be opened again; nothing is lost.
pub(crate) fn collect(
    log: &mut Log,
    rooms: &mut Rooms,
    commits: u64,
    segment_bytes: u64,
) -> io::Result<()> {
    let mut copied = 0;
    while log.oldest() < log.newest()
        && log.bytes() > 2 * rooms.live.total() + 2 * segment_bytes
        && copied < COPIES_MAX
    {
        log.rotate(segment_bytes)?;
        let mut frame = Frame::new();
        if rooms.live.of(log.oldest()) > 0 {
            copy_live(log, rooms, &mut frame)?;
            copied += 1;
        }
        // It, and all behind it in which nothing is live either: one wait for the disk.
        let live = |number: &u32| rooms.live.of(*number) > 0;
        let oldest = (log.oldest()..log.newest()).find(live);
        let oldest = oldest.unwrap_or_else(|| log.newest());
        log.append(&mut frame, FrameHead { oldest, commits })?;
        log.sync()?;
        log.forget_before(oldest)?;
        rooms.live.forget_before(oldest);
    }
    Ok(())
}

/// Puts into the frame what is live in the oldest segment.
fn copy_live(log: &Log, rooms: &mut Rooms, frame: &mut Frame) -> io::Result<()> {
    let oldest = log.oldest();
    let bytes = log.read_oldest()?;
    // Of several steps on one key the last counts.
    let mut steps: HashMap<EntryKey, Step<'_>, RandomState> = HashMap::default();
    let read = read_frames(oldest, &bytes, |frame| {
        steps.extend(frame.steps().flatten().map(|step| (step.key, step)));
        Ok(())
    });
    // It was whole when it was written or opened.
    read.map_err(invalid)?;
    for (key, step) in steps {
        let Some(value) = step.value else {
            continue;
        };
        let Some((room, live)) = rooms.by_id(key.room) else {
            continue;
        };
        let Some(at) = room.location(key).filter(|at| at.segment == oldest) else {
            continue;
        };
        live.release(*at);
        *at = Location {
            segment: log.newest(),
            bytes: frame.put(key, |out| out.extend(value)),
        };
        live.claim(*at);
    }
    if rooms.live.of(oldest) == 0 {
        Ok(())
    } else {
        // It says less than was written to it: forgetting it would lose that.
        Err(invalid(Damage::Segment { number: oldest }))
    }
}

fn invalid(damage: Damage) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, damage)
}

/// How many segments one commit copies at most, so that it does not take for ever: the next goes on.
const COPIES_MAX: u32 = 4;
