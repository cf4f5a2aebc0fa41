//! How a store is used, and how safe a batch is.

/// How a store is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long the journal becomes, in bytes, before what is in it is brought into the file. The shorter, the
    /// less disk it takes, and the more often that is waited for. 4 MiB by default; at least 64 KiB and at
    /// most 1 GiB. A large batch makes it longer for a while. When it is four times as long, it is brought into
    /// the file at once, and a commit says so if the disk does not take that.
    pub journal_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            journal_bytes: 4 << 20,
        }
    }
}

/// What a batch that was reported as committed outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends: the kernel has it.
    Buffered,
    /// A loss of power too: the disk has it, and all that was committed before. Waits for the disk.
    Synced,
}
