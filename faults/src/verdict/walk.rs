//! One member's way through the order of a room.

use std::collections::BTreeSet;

use crate::record::Entry;

use super::timeline::Timeline;

/// How far a member has come.
#[derive(Debug)]
pub(super) struct Walk {
    start: usize,
    /// The first that it was neither given nor has passed.
    next: usize,
    in_order: u64,
    repeated: u64,
    reordered: u64,
    /// Passed without being given or told.
    missing: BTreeSet<usize>,
    /// What it was told of and was not given.
    announced: BTreeSet<usize>,
    /// It was told that anything may be missing before what comes next.
    is_unknown: bool,
}

/// What a member's way came to.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) expected: u64,
    pub(super) in_order: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
    pub(super) missing: BTreeSet<usize>,
    pub(super) announced: BTreeSet<usize>,
}

impl Walk {
    /// Begins where the first membership did; none if there never was one.
    pub(super) fn begin(entries: &[Entry], timeline: &Timeline) -> Option<Self> {
        let mut joined = entries.iter().filter_map(|entry| match entry {
            Entry::Joined { position, .. } => Some(position),
            _ => None,
        });
        let start = timeline.index_behind(joined.next()?);
        Some(Self {
            start,
            next: start,
            in_order: 0,
            repeated: 0,
            reordered: 0,
            missing: BTreeSet::new(),
            announced: BTreeSet::new(),
            is_unknown: false,
        })
    }

    /// Goes on by one entry.
    pub(super) fn handle(&mut self, entry: &Entry, timeline: &Timeline) {
        match entry {
            Entry::Joined { .. } => {}
            Entry::Missing { epoch, from, to } => {
                let told = timeline.range(epoch, *from, *to);
                self.announced
                    .extend(told.filter(|index| *index >= self.next));
            }
            Entry::MissingUnknown => self.is_unknown = true,
            // It is in the order, which was made of what everybody was given.
            Entry::Publication { position, .. } => {
                if let Some(index) = timeline.index_of(position) {
                    self.arrive(index);
                }
            }
        }
    }

    fn arrive(&mut self, index: usize) {
        if index >= self.next {
            self.pass(index);
            self.next = index + 1;
            self.in_order += 1;
            self.is_unknown = false;
            self.announced.remove(&index);
        } else if self.missing.remove(&index) || self.announced.remove(&index) {
            self.reordered += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// Passes everything up to this index.
    fn pass(&mut self, index: usize) {
        for passed in self.next..index {
            if self.is_unknown {
                self.announced.insert(passed);
            } else if !self.announced.contains(&passed) {
                self.missing.insert(passed);
            }
        }
    }

    /// There is nothing more.
    pub(super) fn end(mut self, timeline: &Timeline) -> Walked {
        self.pass(timeline.len());
        Walked {
            expected: (timeline.len() - self.start) as u64,
            in_order: self.in_order,
            repeated: self.repeated,
            reordered: self.reordered,
            missing: self.missing,
            announced: self.announced,
        }
    }
}
