//! Settings of a store, and the durability of a batch.

/// Settings of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The length of SQLite's journal, in bytes, at which its contents are copied into the file. A
    /// shorter journal takes less disk, and makes commits wait for the disk more often. 4 MiB by
    /// default; at least 64 KiB and at most 1 GiB. A large batch makes the journal longer for a
    /// while. At four times the length it is copied at once, and the commit fails if the disk does
    /// not take that.
    pub journal_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            journal_bytes: 4 << 20,
        }
    }
}

/// The events that a reported batch survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends: the kernel has the batch.
    Buffered,
    /// A loss of power too: the disk has the batch and everything before it. Waits for the disk.
    Synced,
}
