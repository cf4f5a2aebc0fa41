//! Commands that a core has taken from its mailbox and not carried out yet.

use rooms::{Command, Mailbox};

/// Commands that were taken at once, in order. Its memory and the mailbox's change places with each
/// taking.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    commands: Vec<Command>,
    /// Number of commands that are carried out. A trivial command stands in the place of each.
    done: usize,
}

impl Inbox {
    pub(super) const fn is_empty(&self) -> bool {
        self.done == self.commands.len()
    }

    /// Takes all that is in the mailbox, if nothing is left of what was taken before.
    pub(super) fn refill(&mut self, mailbox: &Mailbox) {
        if self.is_empty() {
            self.commands.clear();
            self.commands.shrink_to(COMMANDS_KEPT_MAX);
            self.done = 0;
            mailbox.drain(&mut self.commands);
        }
    }

    /// Takes the next command out.
    pub(super) fn next(&mut self) -> Option<Command> {
        let next = self.commands.get_mut(self.done)?;
        self.done += 1;
        Some(std::mem::replace(next, Command::Survey))
    }
}

/// Maximum places for commands that stay allocated between turns.
const COMMANDS_KEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_meanwhile_is_taken_when_nothing_is_left() {
        let mailbox = Mailbox::new(usize::MAX);
        let mut inbox = Inbox::default();
        mailbox.push(Command::Drain).wake_quietly();
        mailbox.push(Command::Survey).wake_quietly();
        inbox.refill(&mailbox);
        assert!(matches!(inbox.next(), Some(Command::Drain)));

        mailbox.push(Command::Drain).wake_quietly();
        inbox.refill(&mailbox);
        assert!(matches!(inbox.next(), Some(Command::Survey)));
        assert!(inbox.is_empty() && inbox.next().is_none());

        inbox.refill(&mailbox);
        assert!(matches!(inbox.next(), Some(Command::Drain)));
    }
}
