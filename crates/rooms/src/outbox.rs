//! The frames that one member has been sent and its socket has not yet taken.
//!
//! Invariants: `pending_bytes` is the sum of what is queued less what was sent of the first frame;
//! `rest` is absent when it would be empty; `first` is present whenever `rest` is.

use std::collections::VecDeque;
use std::io::IoSlice;

use proto::SharedFrame;
use thiserror::Error;

/// Frames waiting for one member's socket, bounded in bytes.
///
/// A room writes here and the socket's flush reads, so this queue is the only place where a fast
/// room meets a slow socket. The bound counts bytes and not frames: a frame may be tens of bytes
/// or tens of kilobytes, and it is memory that runs out. An empty outbox has no allocation; one
/// with a single frame, which is the usual case since a turn's publications are merged, has none
/// of its own either.
///
/// Bytes that the kernel already holds are not counted.
///
/// # Examples
///
/// ```
/// use rooms::{Outbox, PushError};
///
/// let mut outbox = Outbox::default();
/// outbox.push(&b"hello".as_slice().into(), 8)?;
/// outbox.advance(2);
/// assert_eq!(outbox.pending_bytes(), 3);
///
/// let refused = outbox.push(&b"worlds".as_slice().into(), 8);
/// assert_eq!(refused, Err(PushError::Full { pending_bytes: 3, pending_bytes_max: 8 }));
/// # Ok::<(), PushError>(())
/// ```
#[derive(Debug, Default)]
pub struct Outbox {
    first: Option<SharedFrame>,
    #[expect(
        clippy::box_collection,
        reason = "8 bytes in every member instead of 32"
    )]
    rest: Option<Box<VecDeque<SharedFrame>>>,
    /// How much of `first` the socket has taken, in bytes.
    sent: u32,
    pending_bytes: u32,
}

/// A frame that the outbox has no room for. The outbox is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PushError {
    /// The member's socket has not taken enough of what was sent before.
    #[error("outbox holds {pending_bytes} of {pending_bytes_max} bytes")]
    Full {
        /// Bytes queued.
        pending_bytes: u32,
        /// Bytes allowed.
        pending_bytes_max: u32,
    },
}

impl Outbox {
    /// Queues encoded frames for the socket.
    ///
    /// Costs one reference count, never a copy: every member of a room shares the same buffer.
    /// An empty outbox takes a frame of any size, or a limit set too low would let nothing through.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] if the frame would take the outbox over `pending_bytes_max`.
    #[inline]
    pub fn push(&mut self, frame: &SharedFrame, pending_bytes_max: u32) -> Result<(), PushError> {
        let pending_bytes = self.pending_bytes;
        let len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Some(total) = pending_bytes.checked_add(len) else {
            return Err(PushError::Full {
                pending_bytes,
                pending_bytes_max,
            });
        };
        if total > pending_bytes_max && pending_bytes > 0 {
            return Err(PushError::Full {
                pending_bytes,
                pending_bytes_max,
            });
        }
        self.pending_bytes = total;
        if self.first.is_none() {
            self.first = Some(frame.clone());
        } else {
            self.rest.get_or_insert_default().push_back(frame.clone());
        }
        Ok(())
    }

    /// How many bytes the socket has not taken.
    pub const fn pending_bytes(&self) -> u32 {
        self.pending_bytes
    }

    /// Whether there is nothing to send.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The one buffer there is, if there is exactly one.
    #[inline]
    pub fn single(&self) -> Option<&[u8]> {
        match (&self.first, &self.rest) {
            (Some(first), None) => Some(&first[self.sent as usize..]),
            _ => None,
        }
    }

    /// Shows the front of the queue as slices for one vectored write; returns how many were set.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let first = self.first.iter().map(|frame| &frame[self.sent as usize..]);
        let rest = self
            .rest
            .iter()
            .flat_map(|rest| rest.iter())
            .map(|frame| &frame[..]);
        let mut count = 0;
        for (slot, bytes) in into.iter_mut().zip(first.chain(rest)) {
            *slot = IoSlice::new(bytes);
            count += 1;
        }
        count
    }

    /// Forgets the first `taken` bytes, which the socket has taken.
    pub fn advance(&mut self, taken: usize) {
        let mut taken = u32::try_from(taken)
            .unwrap_or(u32::MAX)
            .min(self.pending_bytes);
        self.pending_bytes -= taken;
        while let Some(first) = &self.first {
            let left = u32::try_from(first.len()).unwrap_or(u32::MAX) - self.sent;
            if taken < left {
                self.sent += taken;
                return;
            }
            taken -= left;
            self.sent = 0;
            self.first = self.rest.as_mut().and_then(|rest| rest.pop_front());
            if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
                self.rest = None;
            }
        }
    }

    /// Drops what has not begun to be sent, so that a close frame can follow.
    ///
    /// A buffer of which a part is on the wire stays: the peer must be able to read on.
    pub fn drop_unsent(&mut self) {
        self.rest = None;
        match &self.first {
            Some(first) if self.sent > 0 => {
                self.pending_bytes = u32::try_from(first.len()).unwrap_or(u32::MAX) - self.sent;
            }
            _ => {
                self.first = None;
                self.pending_bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox_with(frames: &[&[u8]]) -> Outbox {
        let mut outbox = Outbox::default();
        for frame in frames {
            outbox.push(&(*frame).into(), 1000).unwrap();
        }
        outbox
    }

    fn contents(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = outbox.slices(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect()
    }

    #[test]
    fn every_partial_write_leaves_the_rest_in_order() {
        for taken in 0..=9 {
            let mut outbox = outbox_with(&[b"abc", b"d", b"efghi"]);
            outbox.advance(taken);
            assert_eq!(contents(&outbox), b"abcdefghi"[taken..]);
            assert_eq!(outbox.pending_bytes() as usize, 9 - taken);
            assert_eq!(outbox.is_empty(), taken == 9);
        }
    }

    #[test]
    fn many_partial_writes_of_one_frame_add_up() {
        let mut outbox = outbox_with(&[b"abcd", b"e"]);
        for left in [b"bcde".as_slice(), b"cde", b"de", b"e", b""] {
            outbox.advance(1);
            assert_eq!(contents(&outbox), left);
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_empty_outbox_takes_a_frame_over_the_limit_and_then_nothing() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&b"12345".as_slice().into(), 4), Ok(()));
        assert!(outbox.push(&b"6".as_slice().into(), 4).is_err());
        outbox.advance(5);
        assert_eq!(outbox.push(&b"6".as_slice().into(), 4), Ok(()));
    }

    #[test]
    fn dropping_the_unsent_keeps_the_frame_that_is_half_on_the_wire() {
        let mut outbox = outbox_with(&[b"abc", b"def"]);
        outbox.advance(1);
        outbox.drop_unsent();
        assert_eq!(
            (contents(&outbox), outbox.pending_bytes()),
            (b"bc".to_vec(), 2)
        );

        let mut outbox = outbox_with(&[b"abc", b"def"]);
        outbox.drop_unsent();
        assert!(outbox.is_empty());
        assert_eq!(outbox.pending_bytes(), 0);
    }
}
