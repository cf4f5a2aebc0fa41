//! Whole rooms, to and from the journal.

use super::Histories;
use super::keys::HashedKey;
use super::stream::Stream;
use crate::journal::{Change, RoomImage};
use crate::time::Moment;

impl Histories {
    /// Fills the stream of a new room with what the journal has of it.
    ///
    /// The bytes that [`image_cost`](super::image_cost) says must have been
    /// [reserved](Self::reserve). `hash` is the hash of keys.
    pub(crate) fn restore(
        &mut self,
        stream: &mut Stream,
        image: RoomImage,
        hash: impl Fn(&str) -> u64,
        now: Moment,
    ) {
        let class = stream.class;
        stream.offset = image.offset;
        self.change(stream, now, |history| {
            history.lineage = image.lineage;
            for (at, frame) in image.publications {
                history.publications.push(frame, at, &class.history);
            }
            for (text, offset, at) in image.keys {
                let key = HashedKey {
                    hash: hash(&text),
                    text: &text,
                };
                history.keys.push(key, offset, at, class.keys_max);
            }
            history.linger(now, class);
        });
    }

    /// Writes everything that a room retains to the journal, in place of what the journal has.
    pub(crate) fn write_image(&self, stream: &Stream) {
        if !self.journals(stream) {
            return;
        }
        self.write(stream, Change::Forget);
        self.write_epoch(stream);
        let first = stream.first_offset();
        if let Some(history) = &stream.history {
            for (offset, (at, frame)) in (first..).zip(history.publications.iter()) {
                let change = Change::Publication {
                    epoch: stream.epoch,
                    offset,
                    at,
                    frame: frame.clone(),
                    // The key of a publication that is gone cannot be written without it.
                    key: history.keys.of(offset).map(Into::into),
                };
                self.write(stream, change);
            }
        }
        self.write(stream, Change::Trim { first });
    }

    /// Writes to the journal that the room has its epoch from here on.
    pub(crate) fn write_epoch(&self, stream: &Stream) {
        if self.journals(stream) {
            let change = Change::Epoch {
                epoch: stream.epoch,
                lineage: stream.lineage().to_vec(),
            };
            self.write(stream, change);
        }
    }
}
