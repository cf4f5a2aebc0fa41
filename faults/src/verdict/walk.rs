//! One member's way through the order of a room.

use std::collections::BTreeSet;
use std::sync::Arc;

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
    /// The epoch that it is in.
    epoch: Arc<str>,
    /// The epoch in which it was told so last: what that has forgotten may be missing behind it,
    /// too.
    told_in: Option<Arc<str>>,
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
        let joined = joined.next()?;
        let start = timeline.index_behind(joined);
        Some(Self {
            start,
            next: start,
            in_order: 0,
            repeated: 0,
            reordered: 0,
            missing: BTreeSet::new(),
            announced: BTreeSet::new(),
            is_unknown: false,
            epoch: joined.epoch.clone(),
            told_in: None,
        })
    }

    /// Goes on by one entry.
    pub(super) fn handle(&mut self, entry: &Entry, timeline: &Timeline) {
        match entry {
            Entry::Joined { position, .. } => self.epoch = position.epoch.clone(),
            Entry::Missing { epoch, from, to } => {
                let told = timeline.range(epoch, *from, *to);
                self.announced
                    .extend(told.filter(|index| *index >= self.next));
            }
            Entry::MissingUnknown => {
                self.is_unknown = true;
                self.told_in = Some(self.epoch.clone());
            }
            // It is in the order, which was made of what everybody was given.
            Entry::Publication { position, .. } => {
                if let Some(index) = timeline.index_of(position) {
                    self.arrive(index, timeline);
                }
            }
        }
    }

    fn arrive(&mut self, index: usize, timeline: &Timeline) {
        if index >= self.next {
            self.pass(index, timeline);
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
    fn pass(&mut self, index: usize, timeline: &Timeline) {
        for passed in self.next..index {
            let is_forgotten = |epoch: &Arc<str>| timeline.is_forgotten_by(epoch, passed);
            if self.is_unknown || self.told_in.as_ref().is_some_and(is_forgotten) {
                self.announced.insert(passed);
            } else if !self.announced.contains(&passed) {
                self.missing.insert(passed);
            }
        }
    }

    /// There is nothing more.
    pub(super) fn end(mut self, timeline: &Timeline) -> Walked {
        self.pass(timeline.len(), timeline);
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
