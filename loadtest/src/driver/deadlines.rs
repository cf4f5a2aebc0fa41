//! Steps of connections that may not take for ever, such as an attempt to open one.

use std::collections::VecDeque;

use crate::plan::MemberId;

/// Steps in the order in which they run out of time.
#[derive(Debug, Default)]
pub(super) struct Deadlines(VecDeque<(u64, MemberId, u32)>);

impl Deadlines {
    /// Adds a step, which a member's number of tells from its others; no earlier one has a later
    /// deadline.
    pub(super) fn push(&mut self, deadline_ns: u64, member: MemberId, step: u32) {
        self.0.push_back((deadline_ns, member, step));
    }

    /// Takes the members who have run out of time in the step that they are in.
    pub(super) fn take_overdue(
        &mut self,
        now_ns: u64,
        step_of: impl Fn(MemberId) -> u32,
    ) -> Vec<MemberId> {
        let is_over = |&(deadline_ns, ..): &(u64, MemberId, u32)| deadline_ns <= now_ns;
        let over = self.0.iter().take_while(|it| is_over(it)).count();
        let over = self.0.drain(..over);
        let is_current = |&(_, member, step): &(u64, MemberId, u32)| step_of(member) == step;
        over.filter(is_current)
            .map(|(_, member, _)| member)
            .collect()
    }
}
