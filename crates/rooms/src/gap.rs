//! The event that tells a member which publications it did not receive.

use proto::event::EventEncoder;
use proto::{Json, SharedFrame};

/// Encodes `gap {"room":"lobby","from":58,"to":77}`: the publications from the first to the last
/// offset, both included.
///
/// Gaps are rare, so each is encoded with memory of its own.
pub(crate) fn encode(room: &str, first: u64, last: u64) -> SharedFrame {
    let data = Json::Object(vec![
        ("room".into(), Json::String(room.into())),
        ("from".into(), Json::Unsigned(first)),
        ("to".into(), Json::Unsigned(last)),
    ]);
    EventEncoder::default()
        .encode("gap", &data)
        .expect("the name is one, and strings and numbers are always JSON")
}

/// Returns the most bytes that a gap takes: a character of the name may be written as six, and
/// numbers have 20.
pub(crate) const fn len_max(room: &str) -> usize {
    6 * room.len() + 80
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_gap_is_longer_than_the_longest() {
        for room in ["", "\u{1}", &"\u{1}".repeat(255), &"\"".repeat(255)] {
            let frame = super::encode(room, u64::MAX, u64::MAX);
            assert!(frame.len() <= super::len_max(room));
        }
    }

    #[test]
    fn a_gap_names_its_room_and_both_ends() {
        let frame = super::encode("tea \"room\"", 58, 77);
        assert_eq!(
            &frame[2..],
            br#"gap {"room":"tea \"room\"","from":58,"to":77}"#
        );
    }
}
