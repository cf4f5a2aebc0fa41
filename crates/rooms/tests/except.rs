//! Publications and events from which one member is excepted: who gets what, with every way to
//! treat slow members.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use throng_rooms::{
    ConnectionId, EventKind, HistoryLimits, LocalLimits, Outgoing, Published, RoomClass, Since,
    SlowConsumer,
};

#[path = "support/frames.rs"]
mod frames;
#[path = "support/house.rs"]
#[expect(dead_code, reason = "other transcripts need the rest of it")]
mod house;
#[path = "support/items.rs"]
mod items;

use frames::Said;
use house::{House, KEPT, PLAIN, config_of};
use items::Item;

const WAYS: [SlowConsumer; 3] = [
    SlowConsumer::Disconnect,
    SlowConsumer::Latest,
    SlowConsumer::Skip,
];

#[test]
fn who_is_excepted_gets_what_others_publish_in_the_same_turn() {
    for way in WAYS {
        let mut house = slow(way, 1 << 20);
        let [alice, bob, carol] = [(); 3].map(|()| house.open_in("tea"));
        publish(&house, "one", Some(alice));
        publish(&house, "two", Some(bob));
        emit(&house, EventKind::Ephemeral, "smell", Some(alice));
        publish(&house, "three", Some(alice));
        emit(&house, EventKind::Lasting, "steam", Some(bob));
        house.turn();

        let counts = house.cores[0].counts();
        assert_eq!((counts.deliveries, counts.skipped), (5 * 3 - 5, 0));
        assert_eq!(house.hear(alice), "1:tea/2 two, 1:tea/- steam");
        assert_eq!(house.hear(bob), "1:tea/1 one, 1:tea/- smell, 1:tea/3 three");
        let all = "1:tea/1 one, 1:tea/2 two, 1:tea/- smell, 1:tea/3 three, 1:tea/- steam";
        assert_eq!(house.hear(carol), all);
    }
}

#[test]
fn who_is_excepted_on_another_core_or_wire_is_nobody_s_business_there() {
    let config = throng_rooms::TableConfig {
        core_count: 2,
        ..config_of(RoomClass::default())
    };
    let mut house = House::with(config, LocalLimits::default());
    let members = [(0, PLAIN), (0, KEPT), (1, PLAIN), (1, KEPT)].map(|(core, wire)| {
        let member = house.open(core, wire);
        house.table.join(member, "tea").unwrap();
        member
    });
    let published = publish(&house, "hot", Some(members[2]));
    assert_eq!(published.member_count, 4, "one of them is excepted");
    house.turn();
    let heard = members.map(|member| house.hear(member));
    assert_eq!(heard, ["0:tea/1 hot", "1:tea/1 hot", "", "1:tea/1 hot"]);
}

#[test]
fn who_is_excepted_and_no_member_takes_nothing_from_others() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    let elsewhere = house.open_in("milk");
    let gone = house.open_in("tea");
    house.cut(gone);
    let next = house.open_in("tea");
    assert_eq!(next.slot(), gone.slot());
    publish(&house, "one", Some(elsewhere));
    publish(&house, "two", Some(gone));
    // The exception is of before she joins.
    let late = house.open(0, KEPT);
    publish(&house, "three", Some(late));
    house.table.join(late, "tea").unwrap();
    publish(&house, "four", None);
    house.turn();

    let all = "1:tea/1 one, 1:tea/2 two, 1:tea/3 three, 1:tea/4 four";
    assert_eq!([alice, next].map(|it| house.hear(it)), [all, all]);
    assert_eq!(house.hear(elsewhere), "");
    assert_eq!(house.hear(late), "1:tea/4 four");
}

#[test]
fn who_is_excepted_and_gone_before_the_turn_ends_takes_nothing_from_others() {
    let mut house = House::of(RoomClass::default());
    let [alice, bob, carol] = [(); 3].map(|()| house.open_in("tea"));
    publish(&house, "one", Some(alice));
    publish(&house, "two", Some(bob));
    house.apply(0);
    house.cut(alice);
    let next = house.open(0, KEPT);
    assert_eq!(next.slot(), alice.slot());
    house.table.join(next, "tea").unwrap();
    house.turn();

    assert_eq!(house.hear(next), "");
    assert_eq!(house.hear(bob), "1:tea/1 one");
    assert_eq!(house.hear(carol), "1:tea/1 one, 1:tea/2 two");
    assert_eq!(house.cores[0].counts().deliveries, 3);
    publish(&house, "three", None);
    house.turn();
    let heard = [next, bob, carol].map(|it| house.hear(it));
    assert_eq!(heard, ["1:tea/3 three"; 3]);
}

#[test]
fn a_history_replays_it_to_who_was_excepted_too() {
    let mut house = House::of(RoomClass::default());
    let alice = house.open_in("tea");
    let left = house.position("tea");
    publish(&house, "one", Some(alice));
    house.turn();
    assert_eq!(house.hear(alice), "");
    assert_eq!(
        (house.held("tea"), house.position("tea").offset),
        ((1, 1), 1)
    );

    house.table.leave(alice, "tea");
    house.join(alice, "tea", Since::Position(left));
    house.turn();
    let all = "joined tea at 1 from 1 recovered, 1:tea/1 one";
    assert_eq!(house.hear(alice), all);
}

#[test]
fn a_slow_member_is_told_of_what_is_between_its_own_in_one_gap() {
    let mut house = slow(SlowConsumer::Latest, 1 << 20);
    let alice = house.open_in("tea");
    publish(&house, "1", None);
    house.turn();
    house.block(alice);
    for _ in 0..100 {
        publish(&house, "hers", Some(alice));
        house.turn();
        publish(&house, "another's", None);
        publish(&house, "hers", Some(alice));
        publish(&house, "another's", None);
        house.turn();
        assert!(house.pending_bytes(alice) < 200);
    }
    publish(&house, "hers", Some(alice));
    house.turn();
    assert_eq!(house.cores[0].counts().skipped, 199);
    let all = r#"1:tea/1 1, gap {"room":"tea","from":3,"to":399}, 1:tea/401 another's"#;
    assert_eq!(house.hear(alice), all);
}

#[test]
fn what_found_no_place_and_what_a_member_is_excepted_from_go_into_one_gap() {
    let mut house = slow(SlowConsumer::Skip, 120);
    let alice = house.open_in("tea");
    house.block(alice);
    let long = "x".repeat(80);
    for body in ["first", &long, &long] {
        publish(&house, body, None);
        house.turn();
    }
    publish(&house, &long, None);
    house.apply(0);
    // The next one is in a buffer of its own, for this parts the turn.
    house.table.direct(alice, frames::frame("hello"));
    publish(&house, "hers", Some(alice));
    house.table.direct(alice, frames::frame("hello"));
    publish(&house, &long, None);
    house.turn();
    let heard = house.hear(alice);
    assert!(
        heard.contains(r#"gap {"room":"tea","from":2,"to":"#),
        "{heard}"
    );
    assert_eq!(heard.matches("gap").count(), 1, "{heard}");
}

// Any order of things.

/// A step in a room of three members, of whom the last reads at once.
#[derive(Clone, Debug)]
enum Step {
    Block(usize),
    Read(usize),
    /// An event of a kind, or a publication; who is excepted; how long.
    Say(Option<EventKind>, Option<usize>, usize),
    Turn,
}

const MEMBER_COUNT: usize = 3;
const PROMPT: usize = MEMBER_COUNT - 1;

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        6 => Just(None),
        1 => Just(Some(EventKind::Lasting)),
        2 => Just(Some(EventKind::Ephemeral)),
    ];
    let except = prop::option::weighted(0.6, 0..MEMBER_COUNT);
    let len = prop_oneof![20 => 0..40_usize, 1 => Just(40_000)];
    prop_oneof![
        1 => (0..PROMPT).prop_map(Step::Block),
        1 => (0..PROMPT).prop_map(Step::Read),
        12 => (kind, except, len).prop_map(|(kind, except, len)| Step::Say(kind, except, len)),
        5 => Just(Step::Turn),
    ]
}

/// The publications, and those that each member received.
struct World {
    house: House,
    members: [ConnectionId; MEMBER_COUNT],
    said: Vec<SaidOnce>,
    heard: [Vec<String>; MEMBER_COUNT],
}

struct SaidOnce {
    kind: Option<EventKind>,
    except: Option<usize>,
    /// Of a publication; of an event that of the last one before it.
    offset: u64,
    body: String,
}

impl World {
    fn new(way: SlowConsumer, outbox_bytes_max: u32) -> Self {
        let mut house = slow(way, outbox_bytes_max);
        Self {
            members: [(); MEMBER_COUNT].map(|()| house.open_in("tea")),
            house,
            said: Vec::new(),
            heard: Default::default(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Block(member) => self.house.block(self.members[member]),
            Step::Read(member) => self.read(member),
            Step::Say(kind, except, len) => self.say(kind, except, len),
            Step::Turn => {
                self.house.turn();
                self.read(PROMPT);
            }
        }
    }

    fn say(&mut self, kind: Option<EventKind>, except: Option<usize>, len: usize) {
        let body = format!("{} {}", self.said.len(), "x".repeat(len));
        let id = except.map(|member| self.members[member]);
        match kind {
            Some(kind) => emit(&self.house, kind, &body, id),
            None => _ = publish(&self.house, &body, id),
        }
        self.said.push(SaidOnce {
            kind,
            except,
            offset: self.house.position("tea").offset,
            body,
        });
    }

    fn read(&mut self, member: usize) {
        if !self.house.closed.contains(&self.members[member]) {
            let mut heard = self.house.read(self.members[member]);
            self.heard[member].append(&mut heard);
        }
    }

    fn check(mut self, way: SlowConsumer, fits: bool) {
        // What does not fit into two buffers waits, even for who reads at once.
        let is_short = self.said.iter().all(|said| said.body.len() < 1000);
        let is_prompt = fits && (is_short || way != SlowConsumer::Latest);
        self.house.turn();
        for member in 0..MEMBER_COUNT {
            self.read(member);
        }
        let mut told_count = 0;
        for member in 0..MEMBER_COUNT {
            let is_closed = self.house.closed.contains(&self.members[member]);
            let gap_count = self.check_member(member, is_closed, &mut told_count);
            let must_not_skip = way == SlowConsumer::Disconnect || member == PROMPT && is_prompt;
            assert!(gap_count == 0 || !must_not_skip);
            assert!(!is_closed || !fits);
        }
        let counts = self.house.cores[0].counts();
        if self.house.closed.is_empty() {
            assert_eq!(counts.skipped, told_count);
        }
        let for_members = |said: &SaidOnce| MEMBER_COUNT - usize::from(said.except.is_some());
        let sent_count: usize = self.said.iter().map(for_members).sum();
        if self.house.closed.is_empty() {
            assert_eq!(counts.deliveries, sent_count as u64);
        }
    }

    /// Returns whether a member got all that it was not excepted from, or was told: with a gap that
    /// has both its ends among what it was not sent. Returns how many gaps it got.
    fn check_member(&self, member: usize, is_closed: bool, told_count: &mut u64) -> usize {
        let mine = || self.said.iter().filter(|said| said.except != Some(member));
        let publications = || mine().filter(|said| said.kind.is_none());
        let between = |above: u64, below: u64| {
            let found = publications().filter(move |said| said.offset > above);
            found.filter(move |said| said.offset < below).count() as u64
        };
        let has = |offset| between(offset - 1, offset + 1) == 1;
        let (mut last, mut behind, mut gap_count) = (0, 0, 0);
        let mut events = Vec::new();
        for text in &self.heard[member] {
            let (first, upto) = match Item::of(text) {
                Item::Publication { offset, body, .. } => {
                    assert!(publications().any(|it| (it.offset, &it.body) == (offset, &body)));
                    assert!(
                        offset > behind,
                        "it was said before an event that came before"
                    );
                    (offset, offset)
                }
                Item::Gap {
                    first, last: upto, ..
                } => {
                    assert!(has(first) && has(upto), "{text}");
                    *told_count += between(first - 1, upto + 1);
                    gap_count += 1;
                    (first, upto)
                }
                Item::Event { body, .. } => {
                    let said = mine().find(|said| said.body == body && said.kind.is_some());
                    let said = said.expect("it was said, and to this member");
                    behind = said.offset;
                    events.push(said);
                    continue;
                }
                Item::Text(text) => panic!("nobody sent {text}"),
            };
            assert!(first > last, "{text}");
            assert_eq!(between(last, first), 0, "nothing is lost before {text}");
            last = upto;
        }
        let serials: Vec<&str> = events.iter().map(|said| said.body.as_str()).collect();
        let in_order = mine().filter(|said| serials.contains(&said.body.as_str()));
        assert!(
            in_order
                .map(|said| said.body.as_str())
                .eq(serials.iter().copied())
        );
        if !is_closed {
            assert_eq!(between(last, u64::MAX), 0, "nothing is lost at the end");
            let lasting = |said: &&SaidOnce| said.kind == Some(EventKind::Lasting);
            let arrived = events.iter().filter(|said| lasting(said)).count();
            assert_eq!(arrived, mine().filter(lasting).count());
        }
        gap_count
    }
}

proptest! {
    // The same cases in every run; `PROPTEST_CASES` asks for more of them.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_member_gets_what_it_is_not_excepted_from_or_is_told(
        way in prop::sample::select(&WAYS[..]),
        outbox_bytes_max in prop_oneof![100..400_u32, Just(64 << 20)],
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new(way, outbox_bytes_max);
        for step in &steps {
            world.take(step);
        }
        world.check(way, outbox_bytes_max > 400);
    }
}

/// Rooms without a history whose slow members are treated in this way.
fn slow(slow_consumer: SlowConsumer, outbox_bytes_max: u32) -> House {
    let class = RoomClass {
        history: HistoryLimits::NONE,
        slow_consumer,
        ..RoomClass::default()
    };
    let limits = LocalLimits {
        outbox_bytes_max,
        ..LocalLimits::default()
    };
    House::with(config_of(class), limits)
}

fn publish(house: &House, body: &str, except: Option<ConnectionId>) -> Published {
    let outgoing = Outgoing {
        publication: &mut Said { room: "tea", body },
        except,
        payload_len: body.len(),
        key: None,
        at: throng_rooms::Moment(house.now_ms),
        answer: None,
    };
    let published = house.table.publish("tea", outgoing);
    published.expect("it is not refused")
}

fn emit(house: &House, kind: EventKind, body: &str, except: Option<ConnectionId>) {
    let said = Said { room: "tea", body };
    let emitted = house.table.emit_as(kind, "tea", except, said);
    emitted.expect("it lacks no frame");
}
