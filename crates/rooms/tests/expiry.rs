//! What rooms keep goes when its time is up, whatever was there before it, and what cannot be kept
//! leaves nothing behind.

use proto::SharedFrame;
use throng_rooms::{
    Classes, CoreId, HistoryLimits, Moment, Outgoing, Published, RoomClass, RoomTable, TableConfig,
};

const HERE: CoreId = CoreId(0);

fn table(class: RoomClass, history_bytes_max: usize) -> RoomTable {
    RoomTable::new(TableConfig {
        classes: Classes::new(Vec::new(), class),
        history_bytes_max,
        ..TableConfig::default()
    })
}

fn publish(table: &RoomTable, room: &str, key: Option<&str>, at_ms: u64) -> Published {
    let mut frame = SharedFrame::from(&b"hot"[..]);
    let outgoing = Outgoing {
        except: None,
        payload_len: frame.len(),
        publication: &mut frame,
        key,
        at: Moment(at_ms),
        answer: None,
    };
    let published = table.publish(room, outgoing);
    published.expect("it is not refused")
}

fn class(age_max_ms: u64, key_window_ms: u64) -> RoomClass {
    RoomClass {
        history: HistoryLimits {
            age_max_ms,
            ..HistoryLimits::default()
        },
        key_window_ms,
        ..RoomClass::default()
    }
}

#[test]
fn a_key_goes_after_its_window_though_an_older_publication_stays() {
    let table = table(class(15_000, 1_000), 1 << 20);
    publish(&table, "tea", None, 10_000);
    publish(&table, "tea", Some("k"), 10_100);
    assert!(publish(&table, "tea", Some("k"), 10_200).duplicate);
    table.sweep(HERE, Moment(11_200));
    assert!(!publish(&table, "tea", Some("k"), 11_300).duplicate);
}

#[test]
fn a_publication_goes_after_its_age_though_an_older_key_stays() {
    let table = table(class(1_000, 15_000), 1 << 20);
    publish(&table, "tea", Some("k"), 10_000);
    table.sweep(HERE, Moment(11_100));
    publish(&table, "tea", None, 11_100);
    let held = |table: &RoomTable| {
        let limits = throng_rooms::PastLimits {
            publications_max: 10,
            bytes_max: 1 << 20,
        };
        table
            .past("tea", throng_rooms::Since::Last(10), limits)
            .unwrap()
            .frames
            .len()
    };
    assert_eq!(held(&table), 1);
    table.sweep(HERE, Moment(12_200));
    assert_eq!(held(&table), 0);
    assert!(publish(&table, "tea", Some("k"), 12_300).duplicate);
    table.sweep(HERE, Moment(30_000));
    table.sweep(HERE, Moment(30_000));
    let totals = table.totals();
    assert_eq!((totals.rooms_without_members, totals.history_bytes), (0, 0));
}

#[test]
fn a_sweep_of_much_goes_in_parts() {
    let table = table(class(1_000, 1_000), 1 << 26);
    for number in 0..ROOMS {
        publish(&table, &format!("room {number}"), None, 0);
    }
    let held = || table.totals().history_bytes;
    let whole = held();
    let mut next = Some(0);
    let mut dropped = Vec::new();
    while let Some(nth) = next {
        let before = held();
        next = table.sweep_some(HERE, Moment(2_000), nth);
        dropped.push(before - held());
    }
    let most = dropped.iter().max().expect("there was a part");
    assert!(*most <= whole / ROOMS * 5_000, "{dropped:?} of {whole}");
    let left = held();
    table.sweep(HERE, Moment(2_000));
    assert_eq!(held(), left, "all that was due was dropped");
}

/// More in each shard than one part of a sweep takes.
const ROOMS: usize = 40_000;

#[test]
fn entries_that_come_and_go_leave_no_growing_line_behind() {
    // Each second a key comes that expires before the publications: its entry overtakes theirs.
    let table = table(class(1_000_000, 500), 1 << 20);
    publish(&table, "tea", None, 0);
    for second in 1..1000 {
        publish(&table, "tea", Some("k"), second * 1000);
        table.sweep(HERE, Moment(second * 1000 + 600));
    }
    assert!(
        table.expiry_entry_count() < 200,
        "{}",
        table.expiry_entry_count()
    );
}

#[test]
fn rooms_for_which_there_is_no_memory_are_not_made() {
    let table = table(RoomClass::default(), 0);
    for number in 0..1000 {
        let published = publish(&table, &format!("room {number}"), Some("k"), 1);
        assert_eq!(published, Published::default());
    }
    let totals = table.totals();
    assert_eq!(
        (totals.rooms_without_members, totals.publications),
        (0, 1000)
    );
}

#[test]
fn repeats_and_refusals_are_not_counted_as_publications() {
    let class = RoomClass {
        publication_bytes_max: 3,
        ..RoomClass::default()
    };
    let table = table(class, 1 << 20);
    publish(&table, "tea", Some("k"), 1);
    publish(&table, "tea", Some("k"), 2);
    let mut frame = SharedFrame::from(&b"too large"[..]);
    let outgoing = Outgoing {
        except: None,
        payload_len: frame.len(),
        publication: &mut frame,
        key: None,
        at: Moment(3),
        answer: None,
    };
    assert!(table.publish("tea", outgoing).is_err());
    assert_eq!(table.totals().publications, 1);
}
