//! What a case is made of: the limits of its world, and the steps taken in it.

use proptest::prelude::*;
use throng_rooms::FlushQueue;

use super::cores::fan_out_work;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) core_count: u8,
    pub(crate) shard_count: usize,
    pub(crate) mailbox_bytes_max: usize,
    pub(crate) outbox_bytes_max: u32,
    pub(crate) rooms_per_connection_max: usize,
}

/// One step. Cores and connections are taken modulo how many there are, and connections that have
/// ended count: a step with one of them is a step with a stale id.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Carries out up to so many of the commands that the core has taken from its mailbox.
    Apply {
        core: usize,
        count: usize,
    },
    /// Asks for the members of a room.
    Ask {
        room: u8,
        is_tried: bool,
    },
    AskCore {
        core: usize,
        is_tried: bool,
    },
    Broadcast {
        padding_len: u32,
        is_tried: bool,
    },
    Close {
        connection: usize,
    },
    CloseWithLastRoom {
        connection: usize,
        space: u64,
        on: bool,
    },
    /// So many connections that join one room, which is then a large one.
    Crowd {
        core: usize,
        room: u8,
    },
    Direct {
        connection: usize,
        padding_len: u32,
    },
    Dissolve {
        room: u8,
    },
    DissolveSpace {
        space: u64,
    },
    FanOut {
        core: usize,
        /// About how much of it.
        work_max: usize,
    },
    Flush {
        core: usize,
        queue: FlushQueue,
        count: usize,
    },
    /// The socket is gone.
    Gone {
        connection: usize,
    },
    Join {
        connection: usize,
        room: u8,
    },
    Leave {
        connection: usize,
        room: u8,
    },
    LeaveAll {
        connection: usize,
        space: u64,
    },
    /// Leave all rooms at once, asked for by the connection's own core.
    LeaveAllHere {
        connection: usize,
        space: u64,
    },
    Open {
        core: usize,
        window: usize,
    },
    Publish {
        room: u8,
        padding_len: u32,
        except: Option<usize>,
    },
    /// Begins the end of a connection, which its core has decided.
    Shut {
        connection: usize,
    },
    /// Takes the commands from the mailbox, to be carried out later.
    TakeMail {
        core: usize,
    },
    TryDissolve {
        room: u8,
    },
    TryPublish {
        room: u8,
        padding_len: u32,
        except: Option<usize>,
    },
    /// The socket takes so many bytes more.
    Writable {
        connection: usize,
        bytes: usize,
    },
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    let shard_count = prop_oneof![Just(1), Just(4)];
    let mailbox_bytes_max = prop_oneof![200..2000_usize, Just(1 << 20)];
    let outbox_bytes_max = prop_oneof![20..200_u32, Just(1 << 20)];
    let limits = (
        1..=3_u8,
        shard_count,
        mailbox_bytes_max,
        outbox_bytes_max,
        1..=3_usize,
    );
    limits.prop_map(
        |(core_count, shard_count, mailbox_bytes_max, outbox_bytes_max, rooms)| Config {
            core_count,
            shard_count,
            mailbox_bytes_max,
            outbox_bytes_max,
            rooms_per_connection_max: rooms,
        },
    )
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let core = || 0..3_usize;
    let connection = || 0..24_usize;
    let room = || 0..ROOMS;
    let space = || 0..SPACES;
    let is_on = prop_oneof![3 => Just(true), 1 => Just(false)];
    // Two of the longest do not fit into one merged buffer.
    let padding = || prop_oneof![30 => 0..40_u32, 1 => Just(40_000)];
    let bytes = || prop_oneof![10 => 0..100_usize, 3 => Just(1 << 20)];
    let except = || prop::option::weighted(0.4, 0..24_usize);
    let queue = prop_oneof![3 => Just(FlushQueue::Prompt), 1 => Just(FlushQueue::Bulk)];
    prop_oneof![
        12 => (core(), 1..8_usize).prop_map(|(core, count)| Step::Apply { core, count }),
        2 => (room(), any::<bool>()).prop_map(|(room, is_tried)| Step::Ask { room, is_tried }),
        1 => (core(), any::<bool>()).prop_map(|(core, is_tried)| Step::AskCore { core, is_tried }),
        2 => (padding(), any::<bool>())
            .prop_map(|(padding_len, is_tried)| Step::Broadcast { padding_len, is_tried }),
        1 => connection().prop_map(|connection| Step::Close { connection }),
        4 => (connection(), space(), is_on).prop_map(|(connection, space, on)| {
            Step::CloseWithLastRoom {
                connection,
                space,
                on,
            }
        }),
        1 => (core(), room()).prop_map(|(core, room)| Step::Crowd { core, room }),
        5 => (connection(), padding())
            .prop_map(|(connection, padding_len)| Step::Direct { connection, padding_len }),
        2 => room().prop_map(|room| Step::Dissolve { room }),
        1 => space().prop_map(|space| Step::DissolveSpace { space }),
        6 => (core(), fan_out_work()).prop_map(|(core, work_max)| Step::FanOut { core, work_max }),
        4 => (core(), queue, 1..4_usize)
            .prop_map(|(core, queue, count)| Step::Flush { core, queue, count }),
        2 => connection().prop_map(|connection| Step::Gone { connection }),
        16 => (connection(), room()).prop_map(|(connection, room)| Step::Join { connection, room }),
        5 => (connection(), room()).prop_map(|(connection, room)| Step::Leave { connection, room }),
        1 => (connection(), space())
            .prop_map(|(connection, space)| Step::LeaveAll { connection, space }),
        1 => (connection(), space())
            .prop_map(|(connection, space)| Step::LeaveAllHere { connection, space }),
        6 => (core(), bytes()).prop_map(|(core, window)| Step::Open { core, window }),
        16 => (room(), padding(), except())
            .prop_map(|(room, padding_len, except)| Step::Publish { room, padding_len, except }),
        1 => connection().prop_map(|connection| Step::Shut { connection }),
        8 => core().prop_map(|core| Step::TakeMail { core }),
        1 => room().prop_map(|room| Step::TryDissolve { room }),
        4 => (room(), padding(), except())
            .prop_map(|(room, padding_len, except)| Step::TryPublish { room, padding_len, except }),
        4 => (connection(), bytes())
            .prop_map(|(connection, bytes)| Step::Writable { connection, bytes }),
    ]
}

/// The number of rooms there are to choose from, the same names in each space.
pub(crate) const ROOMS: u8 = 4;

/// The number of spaces there are.
const SPACES: u64 = 2;

/// One more than the members up to which a room's connections wait in the prompt line.
pub(crate) const CROWD: usize = 65;
