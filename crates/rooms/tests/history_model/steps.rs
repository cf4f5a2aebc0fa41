//! What a case is made of: the limits of its world, and the steps taken in it.

use proptest::option;
use proptest::prelude::*;
use throng_rooms::{Classes, EventKind, FlushQueue, HistoryLimits, RoomClass, SlowConsumer, Wire};

use super::cores::fan_out_work;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) core_count: u8,
    pub(crate) shard_count: usize,
    pub(crate) mailbox_bytes_max: usize,
    pub(crate) outbox_bytes_max: u32,
    pub(crate) rooms_per_connection_max: usize,
    pub(crate) history_bytes_max: usize,
    pub(crate) class: RoomClass,
    /// The connections that are there from the beginning.
    pub(crate) members: Vec<Early>,
}

/// A connection that is a member of two rooms before the steps begin.
#[derive(Clone, Debug)]
pub(crate) struct Early {
    pub(crate) core: usize,
    pub(crate) wire: Wire,
    pub(crate) window: usize,
    pub(crate) rooms: [usize; 2],
}

/// From how many bytes on there is memory for all that a case publishes.
pub(crate) const AMPLE_BYTES: usize = 1 << 26;

/// Each room is of another class.
pub(crate) const ROOMS: [&str; 6] = ["bare", "close", "keys", "late", "skip", "tiny"];

/// The largest payload in the room `bare`.
pub(crate) const BARE_BYTES_MAX: u32 = 30;

impl Config {
    /// Returns what is so of each room: of `close` what the case says, of the others something
    /// else.
    pub(crate) fn classes(&self) -> Classes {
        let class = self.class;
        let treating = |slow_consumer| RoomClass {
            slow_consumer,
            ..class
        };
        let bare = RoomClass {
            publication_bytes_max: BARE_BYTES_MAX,
            ..RoomClass::PLAIN
        };
        let keys = RoomClass {
            history: HistoryLimits::NONE,
            ..treating(SlowConsumer::Skip)
        };
        let tiny = RoomClass {
            history: HistoryLimits {
                bytes_max: 60,
                age_max_ms: class.history.age_max_ms / 3,
                ..class.history
            },
            ..class
        };
        let patterns = [
            ("bare", bare),
            ("keys", keys),
            ("late", treating(SlowConsumer::Latest)),
            ("skip", treating(SlowConsumer::Skip)),
            ("tiny", tiny),
        ];
        let patterns = patterns.map(|(name, class)| (name.into(), class));
        Classes::new(patterns.to_vec(), class)
    }
}

/// One step. Cores and connections are taken modulo how many there are, and connections that have
/// ended count: a step with one of them is a step with a stale id.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Answer {
        connection: usize,
    },
    /// Carries out up to so many of the commands that the core has taken from its mailbox.
    Apply {
        core: usize,
        count: usize,
    },
    Close {
        connection: usize,
    },
    /// Somebody opens a connection and asks for all that it missed since it was gone.
    ComeBack {
        connection: usize,
        core: usize,
        window: usize,
    },
    Direct {
        connection: usize,
    },
    /// All members of a room leave.
    Dissolve {
        room: usize,
        is_tried: bool,
    },
    Emit {
        room: usize,
        kind: EventKind,
        padding_len: usize,
        is_tried: bool,
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
        room: usize,
        asked: Asked,
    },
    Leave {
        connection: usize,
        room: usize,
    },
    LeaveAll {
        connection: usize,
    },
    Open {
        core: usize,
        wire: Wire,
        window: usize,
    },
    Past {
        room: usize,
        asked: Asked,
        publications_max: usize,
        bytes_max: usize,
    },
    Publish {
        room: usize,
        padding_len: usize,
        key: Option<u8>,
        /// The connection that is told the outcome.
        publisher: Option<usize>,
        is_tried: bool,
        /// Its payload is said to be smaller than it is.
        is_understated: bool,
    },
    Shut {
        connection: usize,
    },
    /// Every core looks at what has expired.
    Sweep,
    TakeMail {
        core: usize,
    },
    Tick {
        ms: u64,
    },
    /// All that a core does in a turn.
    Turn {
        core: usize,
    },
    /// The socket takes so many bytes more.
    Writable {
        connection: usize,
        bytes: usize,
    },
}

/// The place from which somebody who joins, or reads the past, wants publications.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// Nothing: it is not told either.
    Nothing,
    Now,
    Last(u32),
    /// Everything after an offset of the room's stream, modulo one more than there are.
    After(u64),
    /// So many behind the last.
    Future(u64),
    /// Of a stream that never was.
    Elsewhere,
    /// The position of some connection that has ended.
    Remembered(usize),
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    let mailbox_bytes_max = prop_oneof![1 => 300..3000_usize, 2 => Just(1 << 20)];
    let outbox_bytes_max = prop_oneof![3 => 100..800_u32, 2 => Just(1 << 20)];
    let history_bytes_max = prop_oneof![
        1 => Just(0),
        4 => 1000..6000_usize,
        2 => 6000..20_000_usize,
        5 => Just(AMPLE_BYTES)
    ];
    let limits = (
        1..=3_u8,
        prop_oneof![Just(1), Just(4)],
        mailbox_bytes_max,
        outbox_bytes_max,
        1..=4_usize,
        history_bytes_max,
        class(),
        proptest::collection::vec(early(), 0..6),
    );
    limits.prop_map(|limits| Config {
        core_count: limits.0,
        shard_count: limits.1,
        mailbox_bytes_max: limits.2,
        outbox_bytes_max: limits.3,
        rooms_per_connection_max: limits.4,
        history_bytes_max: limits.5,
        class: limits.6,
        members: limits.7,
    })
}

fn early() -> impl Strategy<Value = Early> {
    let room = || 0..ROOMS.len();
    let member = (0..3_usize, wire(), window(), room(), room());
    member.prop_map(|(core, wire, window, first, second)| Early {
        core,
        wire,
        window,
        rooms: [first, second],
    })
}

fn wire() -> impl Strategy<Value = Wire> {
    prop_oneof![1 => Just(Wire(0)), 2 => Just(Wire(1))]
}

/// Returns how many bytes a socket takes.
fn window() -> impl Strategy<Value = usize> {
    prop_oneof![0..400_usize, Just(1 << 30)]
}

fn class() -> impl Strategy<Value = RoomClass> {
    let publications_max = prop_oneof![1..8_u32, Just(1000)];
    let bytes_max = prop_oneof![1 => 60..400_usize, 2 => Just(1 << 20)];
    let age_max_ms = prop_oneof![3..3000_u64, Just(600_000)];
    let key_window_ms = prop_oneof![1..5000_u64, Just(300_000)];
    let keys_max = prop_oneof![1..5_u32, Just(10_000)];
    let limits = (
        publications_max,
        bytes_max,
        age_max_ms,
        key_window_ms,
        keys_max,
    );
    limits.prop_map(
        |(publications_max, bytes_max, age_max_ms, key_window_ms, keys_max)| RoomClass {
            history: HistoryLimits {
                publications_max,
                bytes_max,
                age_max_ms,
            },
            slow_consumer: SlowConsumer::Disconnect,
            key_window_ms,
            keys_max,
            publication_bytes_max: u32::MAX,
        },
    )
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let core = || 0..3_usize;
    let connection = || 0..16_usize;
    let room = || 0..ROOMS.len();
    // Two of the longest do not fit into one merged buffer.
    let padding = || prop_oneof![40 => 0..40_usize, 1 => Just(40_000)];
    let kind = prop_oneof![Just(EventKind::Lasting), Just(EventKind::Ephemeral)];
    let queue = prop_oneof![Just(FlushQueue::Prompt), Just(FlushQueue::Bulk)];
    let ms = prop_oneof![0..50_u64, 0..2000_u64];
    let is_tried = || prop_oneof![4 => Just(false), 1 => Just(true)];
    prop_oneof![
        2 => connection().prop_map(|connection| Step::Answer { connection }),
        10 => (core(), 1..8_usize).prop_map(|(core, count)| Step::Apply { core, count }),
        1 => connection().prop_map(|connection| Step::Close { connection }),
        5 => (connection(), core(), window())
            .prop_map(|(connection, core, window)| Step::ComeBack { connection, core, window }),
        3 => connection().prop_map(|connection| Step::Direct { connection }),
        2 => (room(), is_tried())
            .prop_map(|(room, is_tried)| Step::Dissolve { room, is_tried }),
        5 => (room(), kind, padding(), is_tried()).prop_map(
            |(room, kind, padding_len, is_tried)| Step::Emit { room, kind, padding_len, is_tried }
        ),
        8 => (core(), fan_out_work()).prop_map(|(core, work_max)| Step::FanOut { core, work_max }),
        5 => (core(), queue, 1..4_usize)
            .prop_map(|(core, queue, count)| Step::Flush { core, queue, count }),
        4 => connection().prop_map(|connection| Step::Gone { connection }),
        14 => (connection(), room(), asked())
            .prop_map(|(connection, room, asked)| Step::Join { connection, room, asked }),
        4 => (connection(), room()).prop_map(|(connection, room)| Step::Leave { connection, room }),
        1 => connection().prop_map(|connection| Step::LeaveAll { connection }),
        6 => (core(), wire(), window())
            .prop_map(|(core, wire, window)| Step::Open { core, wire, window }),
        2 => (room(), asked(), 0..4_usize, 0..200_usize).prop_map(
            |(room, asked, publications_max, bytes_max)| Step::Past {
                room,
                asked,
                publications_max,
                bytes_max,
            }
        ),
        50 => (
            room(),
            padding(),
            option::of(0..6_u8),
            option::of(connection()),
            is_tried(),
            is_tried(),
        )
            .prop_map(|it| {
                let (room, padding_len, key, publisher, is_tried, is_understated) = it;
                Step::Publish {
                    room,
                    padding_len,
                    key,
                    publisher,
                    is_tried,
                    is_understated,
                }
            }),
        1 => connection().prop_map(|connection| Step::Shut { connection }),
        3 => Just(Step::Sweep),
        10 => core().prop_map(|core| Step::TakeMail { core }),
        5 => ms.prop_map(|ms| Step::Tick { ms }),
        16 => core().prop_map(|core| Step::Turn { core }),
        6 => (connection(), window())
            .prop_map(|(connection, bytes)| Step::Writable { connection, bytes }),
    ]
}

/// Outboxes that are small beside what rooms with slow members are sent.
pub(crate) fn slow_config() -> impl Strategy<Value = Config> {
    let member = (wire(), 0..200_usize).prop_map(|(wire, window)| Early {
        core: 0,
        wire,
        window,
        rooms: SKIPPING,
    });
    let members = proptest::collection::vec(member, 1..4);
    let outbox_bytes_max = prop_oneof![80..500_u32, Just(1 << 20)];
    (config(), outbox_bytes_max, members).prop_map(|(config, outbox_bytes_max, members)| Config {
        core_count: 1,
        mailbox_bytes_max: 1 << 20,
        outbox_bytes_max,
        history_bytes_max: AMPLE_BYTES,
        members,
        ..config
    })
}

/// The rooms `late` and `skip`.
const SKIPPING: [usize; 2] = [3, 4];

/// Steps among few members of rooms that leave things out.
pub(crate) fn slow_step() -> impl Strategy<Value = Step> {
    let connection = || 0..4_usize;
    let room = || prop_oneof![Just(SKIPPING[0]), Just(SKIPPING[1])];
    let padding = || prop_oneof![20 => 0..60_usize, 1 => Just(40_000)];
    let kind = prop_oneof![Just(EventKind::Lasting), Just(EventKind::Ephemeral)];
    let asked = prop_oneof![
        1 => Just(Asked::Nothing),
        2 => Just(Asked::Now),
        1 => (0..5_u32).prop_map(Asked::Last)
    ];
    let publisher = option::weighted(0.2, connection());
    prop_oneof![
        1 => connection().prop_map(|connection| Step::Answer { connection }),
        4 => (1..3_usize).prop_map(|count| Step::Apply { core: 0, count }),
        1 => connection().prop_map(|connection| Step::Direct { connection }),
        1 => room().prop_map(|room| Step::Dissolve { room, is_tried: false }),
        4 => (room(), kind, padding()).prop_map(|(room, kind, padding_len)| Step::Emit {
            room,
            kind,
            padding_len,
            is_tried: false,
        }),
        3 => fan_out_work().prop_map(|work_max| Step::FanOut { core: 0, work_max }),
        4 => (connection(), room(), asked)
            .prop_map(|(connection, room, asked)| Step::Join { connection, room, asked }),
        4 => (connection(), room()).prop_map(|(connection, room)| Step::Leave { connection, room }),
        30 => (room(), padding(), publisher).prop_map(|(room, padding_len, publisher)| {
            Step::Publish {
                room,
                padding_len,
                key: None,
                publisher,
                is_tried: false,
                is_understated: false,
            }
        }),
        8 => Just(Step::TakeMail { core: 0 }),
        8 => Just(Step::Turn { core: 0 }),
        4 => (connection(), 0..200_usize)
            .prop_map(|(connection, bytes)| Step::Writable { connection, bytes }),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        2 => Just(Asked::Nothing),
        2 => Just(Asked::Now),
        2 => prop_oneof![0..8_u32, Just(u32::MAX)].prop_map(Asked::Last),
        4 => any::<u64>().prop_map(Asked::After),
        1 => prop_oneof![1..4_u64, Just(u64::MAX)].prop_map(Asked::Future),
        1 => Just(Asked::Elsewhere),
        3 => any::<usize>().prop_map(Asked::Remembered),
    ]
}
