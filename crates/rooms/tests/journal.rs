//! What is written down before anybody sees it: when members hear of it, and what it may take.

use std::sync::Arc;

use proto::SharedFrame;
use throng_rooms::{
    Acknowledge, Change, ConnectionId, Entry, EventKind, Journal, Lacks, LocalLimits, Outgoing,
    Publication, PublishError, Published, RoomClass, StreamPosition, TableConfig, Wire, WireSet,
    WriteOrder,
};

#[path = "support/frames.rs"]
mod frames;
#[path = "support/house.rs"]
#[expect(dead_code, reason = "other transcripts need the rest of it")]
mod house;

use frames::{Said, frame};
use house::{House, KEPT, PLAIN, config_of};

#[test]
fn nobody_hears_of_a_publication_before_it_is_written_down() {
    let (mut house, mut writer) = ahead(1 << 20);
    let alice = house.open_in("tea");
    publish(&house, alice, "tea", "one", None).unwrap();
    house.emit(EventKind::Lasting, "tea", "steam");
    publish(&house, alice, "tea", "two", None).unwrap();
    house.turn();
    assert_eq!(house.hear(alice), "");
    assert_eq!(house.position("tea").offset, 0);

    writer.commit(&house, 1);
    house.turn();
    assert_eq!(
        house.hear(alice),
        "1:tea/1 one, 1:tea/- steam, ack one at 1"
    );
    assert_eq!(house.held("tea"), (1, 1));
    writer.commit(&house, 2);
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/2 two, ack two at 2");
    assert_eq!(house.held("tea"), (1, 2));
}

#[test]
fn who_is_excepted_is_excepted_still_when_it_is_written_down() {
    let (mut house, mut writer) = ahead(1 << 20);
    let [alice, bob] = [(); 2].map(|()| house.open_in("tea"));
    let said = |publisher, body| {
        let (mut said, mut answer) = (Said { room: "tea", body }, Answers(body));
        let outgoing = outgoing(&house, &mut said, (publisher, &mut answer));
        let except = Some(alice);
        let published = house.table.publish("tea", Outgoing { except, ..outgoing });
        published.expect("it is not refused");
    };
    said(alice, "one");
    let (room, body) = ("tea", "steam");
    let steam = Said { room, body };
    house
        .table
        .emit_as(EventKind::Lasting, room, Some(bob), steam)
        .unwrap();
    said(bob, "two");
    writer.commit(&house, 2);
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/- steam, ack one at 1");
    assert_eq!(house.hear(bob), "1:tea/1 one, 1:tea/2 two, ack two at 2");
    assert_eq!(house.held("tea"), (1, 2));
}

#[test]
fn what_waits_to_be_written_down_needs_the_frame_of_every_wire_in_use() {
    let (mut house, mut writer) = ahead(1 << 20);
    let alice = house.open_in("tea");
    let lacks = Lacks(WireSet::from_iter([PLAIN]));
    let before = house.table.totals();
    let mut kept_only = KeptOnly("one");
    let mut refused = Answers("one");
    let published = house.table.publish(
        "tea",
        outgoing(&house, &mut kept_only, (alice, &mut refused)),
    );
    assert_eq!(published, Err(lacks.into()));
    assert_eq!(house.table.totals(), before);
    // An event that does not have to wait needs only what members speak.
    let emit = |house: &House| {
        let kind = EventKind::Lasting;
        house.table.emit_as(kind, "tea", None, KeptOnly("steam"))
    };
    assert_eq!(emit(&house).map(|it| it.member_count), Ok(1));
    publish(&house, alice, "tea", "two", None).unwrap();
    assert_eq!(emit(&house), Err(lacks));
    writer.commit(&house, 1);
    house.turn();
    assert_eq!(house.hear(alice), "steam, 1:tea/1 two, ack two at 1");
}

#[test]
fn a_wire_that_is_added_later_has_no_frame_of_what_waited_before() {
    let (mut house, mut writer) = ahead(1 << 20);
    let alice = house.open_in("tea");
    publish(&house, alice, "tea", "one", None).unwrap();
    house.table.add_wire(Wire(2));
    let late = house.open(0, Wire(2));
    house.table.join(late, "tea").unwrap();
    publish(&house, alice, "tea", "two", None).unwrap();
    writer.commit(&house, 2);
    house.turn();
    assert_eq!(house.hear(late), "2:tea/2 two");
}

#[test]
fn what_could_not_be_written_down_is_refused_and_its_offset_is_given_again() {
    let (mut house, mut writer) = ahead(1 << 20);
    let alice = house.open_in("tea");
    publish(&house, alice, "tea", "one", Some("k")).unwrap();
    house.table.roll_back_journal();
    house.turn();
    assert_eq!(house.hear(alice), "refused one");
    assert_eq!(house.position("tea").offset, 0);

    house.table.resume_journal();
    let again = publish(&house, alice, "tea", "one", Some("k")).unwrap();
    assert!(!again.duplicate, "its key is forgotten too");
    writer.commit(&house, 1);
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, ack one at 1");
}

#[test]
fn who_leaves_with_all_others_does_not_see_what_is_written_down_after_that() {
    let (mut house, mut writer) = ahead(1 << 20);
    let alice = house.open_in("tea");
    publish(&house, alice, "tea", "one", None).unwrap();
    publish(&house, alice, "tea", "two", None).unwrap();
    writer.commit(&house, 1);
    house.table.dissolve("tea");
    let bob = house.open(0, KEPT);
    house.table.join(bob, "tea").unwrap();
    writer.commit(&house, 2);
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, ack one at 1, ack two at 2");
    assert_eq!(house.hear(bob), "1:tea/2 two");
    assert_eq!(house.held("tea"), (1, 2));
}

#[test]
fn a_repeat_of_what_is_not_written_down_waits_with_it() {
    let (mut house, mut writer) = ahead(1 << 20);
    let [alice, bob] = [(); 2].map(|()| house.open_in("tea"));
    publish(&house, alice, "tea", "one", Some("k")).unwrap();
    let repeat = publish(&house, bob, "tea", "again", Some("k")).unwrap();
    assert!(repeat.duplicate);
    house.turn();
    assert_eq!(house.hear(bob), "");
    writer.commit(&house, 1);
    house.turn();
    assert_eq!(house.hear(alice), "1:tea/1 one, ack one at 1");
    assert_eq!(house.hear(bob), "1:tea/1 one, ack again at 1 already");
}

#[test]
fn who_repeats_what_is_not_written_down_again_and_again_is_refused() {
    let (mut house, mut writer) = ahead(1 << 20);
    let alice = house.open_in("tea");
    let answer = |_| publish(&house, alice, "tea", "one", Some("k"));
    let answers: Vec<_> = (0..1000).map(answer).collect();
    let refused = answers.iter().filter(|answer| answer.is_err());
    assert!(
        refused
            .clone()
            .all(|answer| *answer == Err(PublishError::NoMemory))
    );
    assert!(refused.count() > 900);
    writer.commit(&house, 1);
    house.turn();
    assert!(house.read(alice).len() < 100);
}

#[test]
fn what_waits_to_be_written_down_takes_no_more_memory_than_there_is() {
    let (mut house, mut writer) = ahead(100_000);
    let alice = house.open(0, PLAIN);
    house.table.join(alice, "tea").unwrap();
    house.turn();
    let long = "x".repeat(10_000);
    let mut accepted_count = 0;
    let refused = loop {
        match publish(&house, alice, "tea", &long, None) {
            Ok(_) => accepted_count += 1,
            Err(error) => break error,
        }
        assert!(house.table.totals().history_bytes <= 100_000);
        assert!(accepted_count < 10, "it is held twice, once for each wire");
    };
    assert_eq!(refused, PublishError::NoMemory);
    assert!(accepted_count > 1);
    writer.commit(&house, accepted_count);
    house.turn();
    let heard = house.read(alice);
    assert_eq!(heard.len() as u64, 2 * accepted_count);
    publish(&house, alice, "tea", &long, None).unwrap();
}

#[test]
fn a_room_for_which_there_is_no_memory_is_not_made() {
    let (house, _) = ahead(0);
    let nobody = house.cores[0].nobody();
    for number in 0..100 {
        let refused = publish(&house, nobody, &number.to_string(), "one", None);
        assert_eq!(refused, Err(PublishError::NoMemory));
    }
    let totals = house.table.totals();
    assert_eq!((totals.rooms_without_members, totals.publications), (0, 0));
}

/// Returns what is published is written down before it is delivered; there is so much memory for
/// it.
fn ahead(history_bytes_max: usize) -> (House, Writer) {
    let journal = Arc::new(Journal::new(WriteOrder::Ahead, 1 << 20));
    let config = TableConfig {
        wires: vec![PLAIN, KEPT],
        journal: Some(journal.clone()),
        history_bytes_max,
        ..config_of(RoomClass::default())
    };
    let house = House::with(config, LocalLimits::default());
    let written = Vec::new();
    (house, Writer { journal, written })
}

/// The writer of the journal.
struct Writer {
    journal: Arc<Journal>,
    written: Vec<Entry>,
}

impl Writer {
    /// Says that the publications to `tea` up to an offset are written down, as they must be by
    /// now.
    fn commit(&mut self, house: &House, up_to: u64) {
        let mut entries = Vec::new();
        self.journal.queue.drain(&mut entries);
        self.written.append(&mut entries);
        let is_last = |entry: &&Entry| match entry.change {
            Change::Publication { offset, .. } => offset == up_to,
            _ => false,
        };
        let last = self.written.iter().rfind(is_last);
        let last = last.expect("it was given to be written down");
        house.table.commit(&last.room, up_to);
    }
}

fn publish(
    house: &House,
    publisher: ConnectionId,
    room: &str,
    body: &str,
    key: Option<&str>,
) -> Result<Published, PublishError> {
    let mut said = Said { room, body };
    let mut answer = Answers(body);
    let outgoing = outgoing(house, &mut said, (publisher, &mut answer));
    house.table.publish(room, Outgoing { key, ..outgoing })
}

fn outgoing<'a>(
    house: &House,
    publication: &'a mut dyn Publication,
    answer: (ConnectionId, &'a mut Answers<'a>),
) -> Outgoing<'a> {
    let (publisher, answer) = answer;
    Outgoing {
        publication,
        except: None,
        payload_len: answer.0.len(),
        key: None,
        at: throng_rooms::Moment(house.now_ms),
        answer: Some((publisher, answer)),
    }
}

/// Something of which there is only the frame that histories keep.
struct KeptOnly(&'static str);

impl Publication for KeptOnly {
    fn encode(&mut self, wire: Wire, _: Option<u64>) -> SharedFrame {
        assert!(
            self.wires().contains(wire),
            "it was not asked whether it has this"
        );
        frame(self.0)
    }

    fn wires(&self) -> WireSet {
        WireSet::from_iter([KEPT])
    }
}

/// Tells a publisher what became of what it said.
struct Answers<'a>(&'a str);

impl Acknowledge for Answers<'_> {
    fn acknowledge(&mut self, position: Option<StreamPosition>, duplicate: bool) -> SharedFrame {
        let offset = position.map_or(0, |position| position.offset);
        let already = if duplicate { " already" } else { "" };
        frame(&format!("ack {} at {offset}{already}", self.0))
    }

    fn refuse(&mut self) -> SharedFrame {
        frame(&format!("refused {}", self.0))
    }
}
