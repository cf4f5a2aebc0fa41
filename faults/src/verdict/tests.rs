//! The verdict finds each way of breaking the promise, and nothing where it was kept.

use super::*;
use crate::record::{Acknowledged, Position};

const KEPT: Promises = Promises {
    epochs: Epochs::One,
    may_skip: false,
};

const FORGOTTEN: Promises = Promises {
    epochs: Epochs::Forgotten,
    may_skip: false,
};

const CARRIED: Promises = Promises {
    epochs: Epochs::Carried,
    may_skip: false,
};

const SKIPPING: Promises = Promises {
    epochs: Epochs::One,
    may_skip: true,
};

/// Two publish: from 10 on it is the second's.
fn key(number: u32) -> Key {
    let client = 1 + number / 10;
    Key { client, number }
}

/// A member of room 0, whose record is made step by step.
#[derive(Default)]
struct Member(Record);

impl Member {
    fn joined(mut self, epoch: &str, offset: u64, recovered: Option<bool>) -> Self {
        let position = Position::new(epoch, offset);
        self.0.join(0, position, recovered, offset);
        self
    }

    fn given(mut self, epoch: &str, publications: &[(u64, u32)]) -> Self {
        for (offset, number) in publications {
            let position = Position::new(epoch, *offset);
            self.0.publication(0, position, key(*number));
        }
        self
    }

    fn told(mut self, epoch: &str, from: u64, to: u64) -> Self {
        self.0.missing(0, &epoch.into(), from, to);
        self
    }

    fn told_unknown(mut self) -> Self {
        self.0.missing_unknown(0);
        self
    }

    fn acknowledged(mut self, epoch: &str, publications: &[(u64, u32)]) -> Self {
        for (offset, number) in publications {
            self.0.taken_count += 1;
            self.0.acknowledged.push(Acknowledged {
                key: key(*number),
                room: 0,
                position: Some(Position::new(epoch, *offset)),
                duplicate: false,
            });
        }
        self
    }
}

/// A member that was given these since offset 0.
fn member(publications: &[(u64, u32)]) -> Member {
    Member::default()
        .joined("a", 0, None)
        .given("a", publications)
}

fn verdict(members: &[Member], promises: Promises) -> Verdict {
    let witnesses: Vec<_> = (0..).zip(members).collect();
    let witnesses: Vec<_> = witnesses
        .iter()
        .map(|(number, member)| Witness {
            kind: "test",
            number: *number,
            record: &member.0,
        })
        .collect();
    judge(&witnesses, &[], promises)
}

/// The counts that are not of what went well, and the findings.
#[track_caller]
fn found(members: &[Member], promises: Promises) -> (Deliveries, Vec<String>) {
    let verdict = verdict(members, promises);
    (verdict.by_kind[0].1.clone(), verdict.findings.first)
}

const THREE: [(u64, u32); 3] = [(1, 1), (2, 2), (3, 3)];

#[test]
fn nothing_is_found_where_everybody_was_given_everything() {
    let late = Member::default().joined("a", 2, None).given("a", &[(3, 3)]);
    let back = Member::default()
        .joined("a", 0, None)
        .given("a", &[(1, 1)])
        .joined("a", 2, Some(true))
        .given("a", &[(2, 2), (3, 3)]);
    let publisher = member(&THREE).acknowledged("a", &THREE);
    let (deliveries, findings) = found(&[publisher, late, back], KEPT);

    assert_eq!(findings, [""; 0]);
    let expected = Deliveries {
        client_count: 3,
        expected: 7,
        in_order: 7,
        recovered: 1,
        ..Deliveries::default()
    };
    assert_eq!(deliveries, expected);
    assert_eq!(deliveries.percent(), Some(100.0));
}

#[test]
fn what_is_missing_repeated_or_late_is_found() {
    let cases = [
        // in order, repeated, reordered, missing
        (vec![1, 3], [2, 0, 0, 1]),
        (vec![2, 3], [2, 0, 0, 1]),
        (vec![1, 2], [2, 0, 0, 1]),
        (vec![], [0, 0, 0, 3]),
        (vec![1, 2, 2, 3], [3, 1, 0, 0]),
        (vec![1, 3, 2], [2, 0, 1, 0]),
    ];
    for (given, counts) in cases {
        let given: Vec<_> = given
            .into_iter()
            .map(|number| (number.into(), number))
            .collect();
        let (deliveries, findings) = found(&[member(&THREE), member(&given)], KEPT);
        let Deliveries {
            in_order,
            repeated,
            reordered,
            missing,
            ..
        } = deliveries;
        assert_eq!(
            [in_order - 3, repeated, reordered, missing],
            counts,
            "{given:?}"
        );
        assert!(!findings.is_empty(), "{given:?}");
    }
}

#[test]
fn what_was_acknowledged_and_nobody_was_given_is_missing_for_everybody() {
    let members = [member(&THREE).acknowledged("a", &[(4, 4)]), member(&THREE)];
    let (deliveries, findings) = found(&members, KEPT);
    assert_eq!((deliveries.missing, findings.len()), (2, 2));

    // Nobody has it, but there was something: others were told of a later offset.
    let members = [member(&[(1, 1), (3, 3)]), member(&[(1, 1), (3, 3)])];
    assert_eq!(found(&members, KEPT).0.missing, 2);
    let members = [member(&THREE).joined("a", 4, Some(true)), member(&THREE)];
    assert_eq!(found(&members, KEPT).0.missing, 2);
}

#[test]
fn two_orders_are_found() {
    let (_, findings) = found(&[member(&THREE), member(&[(1, 2), (2, 1), (3, 3)])], KEPT);
    assert!(findings[0].contains("two orders"), "{findings:?}");
    let publisher = member(&THREE).acknowledged("a", &[(2, 3)]);
    let (_, findings) = found(&[publisher, member(&THREE)], KEPT);
    assert!(findings[0].contains("two orders"), "{findings:?}");
}

#[test]
fn a_publication_that_is_published_twice_is_found() {
    let (_, findings) = found(&[member(&[(1, 1), (2, 2), (3, 2)])], KEPT);
    assert!(
        findings.iter().any(|of| of.contains("published twice")),
        "{findings:?}"
    );
}

#[test]
fn a_publishers_own_order_is_looked_at() {
    let (_, findings) = found(&[member(&[(1, 2), (2, 1)])], KEPT);
    assert!(
        findings[0].contains("its publisher's order"),
        "{findings:?}"
    );
}

#[test]
fn what_is_announced_is_allowed_only_where_it_may_be() {
    let skipped = || {
        let member = Member::default().joined("a", 0, None).given("a", &[(1, 1)]);
        member.told("a", 2, 2).given("a", &[(3, 3)])
    };
    let (deliveries, findings) = found(&[member(&THREE), skipped()], SKIPPING);
    assert_eq!((deliveries.announced, deliveries.missing), (1, 0));
    assert_eq!(findings, [""; 0]);
    let (_, findings) = found(&[member(&THREE), skipped()], KEPT);
    assert_eq!(findings.len(), 1);

    // At the end too; and one more than was told is missing.
    let at_end = member(&[(1, 1)]).told("a", 2, 3);
    assert_eq!(found(&[member(&THREE), at_end], SKIPPING).1, [""; 0]);
    let more = member(&[(1, 1)]).told("a", 2, 2);
    assert_eq!(found(&[member(&THREE), more], SKIPPING).0.missing, 1);
}

#[test]
fn an_answer_that_not_all_was_recovered_is_found_where_all_is_kept() {
    let told = member(&THREE).joined("a", 3, Some(false));
    assert_eq!(found(&[told], KEPT).1.len(), 1);
}

#[test]
fn a_server_that_forgot_everything_may_lose_what_it_says() {
    let away = member(&[(1, 1)])
        .joined("b", 1, Some(false))
        .told_unknown()
        .given("b", &[(1, 4)]);
    let there = member(&THREE)
        .joined("b", 0, Some(false))
        .told_unknown()
        .given("b", &[(1, 4)]);
    let (deliveries, findings) = found(&[away, there], FORGOTTEN);
    assert_eq!(findings, [""; 0]);
    assert_eq!((deliveries.expected, deliveries.in_order), (8, 6));
    assert_eq!((deliveries.announced, deliveries.missing), (2, 0));

    let liar = member(&[(1, 1)])
        .joined("b", 1, Some(true))
        .given("b", &[(1, 4)]);
    let there = member(&THREE);
    let (deliveries, findings) = found(&[liar, there], FORGOTTEN);
    assert!(
        findings.iter().any(|of| of.contains("all was recovered")),
        "{findings:?}"
    );
    assert_eq!(deliveries.missing, 3);
}

#[test]
fn a_server_that_forgot_may_publish_again_what_it_did_not_acknowledge() {
    let again = |member: Member, epoch: &str| {
        let back = member.joined(epoch, 0, Some(false)).told_unknown();
        back.given(epoch, &[(1, 3)])
    };
    // Twice forgotten, and acknowledged at last.
    let member_of_three = || again(again(member(&THREE), "b"), "c");
    let told_last = verdict(&[member_of_three().acknowledged("c", &[(1, 3)])], FORGOTTEN);
    assert_eq!((told_last.findings.count, told_last.republished), (0, 2));

    let told_first = verdict(&[member_of_three().acknowledged("a", &[(3, 3)])], FORGOTTEN);
    assert_eq!((told_first.findings.count, told_first.republished), (2, 0));
    let told_second = verdict(&[member_of_three().acknowledged("b", &[(1, 3)])], FORGOTTEN);
    assert_eq!(
        (told_second.findings.count, told_second.republished),
        (1, 1)
    );
}

#[test]
fn a_server_that_forgot_the_last_may_lose_them_and_repeats_nothing_before() {
    let promises = Promises {
        epochs: Epochs::TailForgotten,
        may_skip: false,
    };
    let back = |member: Member| member.joined("b", 2, Some(false)).told_unknown();
    // The third was not on disk, and is published again: behind another, or in its old place.
    for (third, fourth) in [(3, 4), (4, 3)] {
        let mut again = [(third, 3), (fourth, 14)];
        again.sort_unstable();
        let saw_it = back(member(&THREE)).given("b", &again);
        let missed_it = back(member(&[(1, 1)]))
            .given("b", &[(2, 2)])
            .given("b", &again);
        let verdict = verdict(&[saw_it, missed_it], promises);
        let (_, deliveries) = &verdict.by_kind[0];
        assert_eq!(verdict.republished, 1);
        let counts = [
            deliveries.expected,
            deliveries.in_order,
            deliveries.announced,
        ];
        assert_eq!(counts, [10, 9, 1], "{third} {:?}", verdict.findings);
    }

    // What is in the new epoch is not excused.
    let lost = back(member(&[(1, 1)])).given("b", &[(2, 2), (4, 4)]);
    let live = back(member(&THREE)).given("b", &[(3, 3), (4, 4)]);
    assert_eq!(found(&[live, lost], promises).0.missing, 1);

    // What was on disk must not come again.
    let twice = back(member(&THREE)).given("b", &[(2, 2), (3, 4)]);
    let (deliveries, findings) = found(&[twice], promises);
    assert_eq!((deliveries.repeated, findings.len()), (1, 1));
}

#[test]
fn what_a_server_has_on_disk_goes_on_in_its_next_epoch() {
    // One saw it live, the other in the replay of the next epoch, under the same offset.
    let live = member(&THREE)
        .joined("b", 3, Some(true))
        .given("b", &[(4, 4)]);
    let back = member(&[(1, 1)])
        .joined("b", 3, Some(true))
        .given("b", &[(2, 2), (3, 3), (4, 4)]);
    let (deliveries, findings) = found(&[live, back], CARRIED);
    assert_eq!(findings, [""; 0]);
    assert_eq!((deliveries.expected, deliveries.in_order), (8, 8));

    let lost = member(&[(1, 1)])
        .joined("b", 3, Some(true))
        .given("b", &[(3, 3), (4, 4)]);
    let live = member(&THREE)
        .joined("b", 3, Some(true))
        .given("b", &[(4, 4)]);
    assert_eq!(found(&[live, lost], CARRIED).0.missing, 1);
    let twice = member(&THREE)
        .joined("b", 3, Some(true))
        .given("b", &[(4, 3)]);
    let (_, findings) = found(&[twice], CARRIED);
    assert!(findings[0].contains("published twice"), "{findings:?}");
}

#[test]
fn members_that_go_through_epochs_in_two_orders_are_found() {
    let there = member(&[]).joined("b", 0, Some(false)).told_unknown();
    let back = Member::default()
        .joined("b", 0, None)
        .joined("a", 0, Some(false))
        .told_unknown();
    let (_, findings) = found(&[there, back], FORGOTTEN);
    assert!(findings[0].contains("two orders"), "{findings:?}");
}

#[test]
fn an_acknowledgement_from_an_epoch_in_which_nobody_was_is_found() {
    let publisher = member(&THREE).acknowledged("b", &[(1, 4)]);
    let (_, findings) = found(&[publisher], FORGOTTEN);
    assert!(findings[0].contains("nobody ever joined"), "{findings:?}");
}

#[test]
fn what_a_client_says_of_itself_is_found() {
    let mut complaining = member(&THREE);
    complaining.0.complain("that is not right".to_owned());
    let mut unanswered = member(&THREE);
    unanswered.0.taken_count = 2;
    let mut absent = Member::default();
    absent.0.rooms.insert(0, Default::default());
    let mut nowhere = member(&THREE).acknowledged("a", &[(1, 1)]);
    nowhere.0.acknowledged[0].position = None;
    for witness in [complaining, unanswered, absent, nowhere] {
        assert_eq!(found(&[witness, member(&THREE)], KEPT).1.len(), 1);
    }
}

#[test]
fn offsets_beyond_all_measure_are_said_and_take_no_memory() {
    let (_, findings) = found(&[member(&[(1, 1), (u64::MAX, 2)])], KEPT);
    assert!(findings[0].contains("that nobody has"), "{findings:?}");
}

#[test]
fn a_client_that_recovers_nothing_is_counted_by_what_it_was_given() {
    let member = member(&THREE);
    let witness = Witness {
        kind: "test",
        number: 0,
        record: &member.0,
    };
    let plain: Plain = HashMap::from([(0, HashMap::from([(key(1), 1), (key(3), 2)]))]);
    let verdict = judge(&[witness], &[plain], KEPT);

    let Deliveries {
        expected,
        in_order,
        repeated,
        missing,
        ..
    } = verdict.plain;
    assert_eq!([expected, in_order, repeated, missing], [3, 2, 1, 1]);
    assert_eq!(verdict.findings.count, 0);
}
