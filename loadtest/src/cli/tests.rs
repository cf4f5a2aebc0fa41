//! What command lines mean, and which are refused.

use super::*;

fn ask(line: &str) -> Result<Request> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    interpret(&words)
}

fn setup(line: &str) -> Box<Setup> {
    match ask(line) {
        Ok(Request::Load(setup)) => setup,
        other => panic!("{line}: {other:?}"),
    }
}

fn group(line: &str) -> Group {
    *setup(line).scenario.groups.last().unwrap()
}

fn shape(line: &str) -> (&'static str, u32, u32, Pacing) {
    let Group {
        rooms,
        members_per_room,
        pacing,
        ..
    } = group(line);
    let mode = setup(line).mode.load().0;
    (mode, rooms, members_per_room, pacing)
}

fn refusal(line: &str) -> String {
    match ask(line) {
        Err(failure) => failure.to_string(),
        Ok(request) => panic!("{line}: {request:?}"),
    }
}

fn closed(window: u32) -> Pacing {
    Pacing::Closed { window }
}

fn open(per_second: f64) -> Pacing {
    Pacing::Open { per_second }
}

#[test]
fn the_flags_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_examples_of_the_manual_mean_what_they_say() {
    let fanout = "loadtest fanout --rooms 1 --members 1000 --payload 64 --window 16";
    assert_eq!(shape(fanout), ("fanout", 1, 1000, closed(16)));
    assert_eq!(setup(fanout).scenario.payload_bytes, 64);
    let latency = "loadtest latency --rate 100 --members 500";
    assert_eq!(shape(latency), ("latency", 1, 500, open(100.0)));
    let knee = "loadtest knee --members 500 --p99 20ms";
    assert_eq!(shape(knee), ("knee", 1, 500, open(10.0)));
    let soak = setup("loadtest soak --rate 50 --seconds 2h --html report.html");
    assert_eq!(soak.scenario.measured, Duration::from_secs(7200));
    assert_eq!(soak.output.html, Some("report.html".into()));
}

#[test]
fn nothing_at_all_is_half_a_minute_of_the_big_room() {
    let plain = setup("loadtest");
    assert_eq!(plain.scenario.name.as_deref(), Some("big-room"));
    assert_eq!(plain.scenario.measured, Duration::from_secs(30));
    assert_eq!(plain.target.url, "ws://127.0.0.1:8080/ws");
    let note = plain.notes.iter().find(|note| note.contains("big-room"));
    assert!(note.is_some(), "{:?}", plain.notes);
    let shorter = setup("loadtest --seconds 3 --json --url ws://127.0.0.1:1/ws");
    assert_eq!(shorter.scenario.measured, Duration::from_secs(3));
    assert_eq!(shorter.scenario.name.as_deref(), Some("big-room"));
    assert!(shorter.output.json);
}

#[test]
fn plain_flags_are_those_of_fanout() {
    assert_eq!(
        shape("loadtest --members 1000 --window 16"),
        ("fanout", 1, 1000, closed(16))
    );
    let many = group("loadtest --rooms 200 --members 10 --publishers 50");
    assert_eq!((many.publishers, many.pacing), (50, closed(50)));
    let few = group("loadtest --rooms 200 --members 10 --window 8");
    assert_eq!((few.publishers, few.pacing), (8, closed(8)));
    let open_loop = group("loadtest --rate 20 --publishers 3");
    assert_eq!((open_loop.publishers, open_loop.pacing), (3, open(20.0)));
}

#[test]
fn flags_for_everything_stand_before_or_behind_the_mode() {
    for line in [
        "loadtest --json --server-pid 1 --seconds 5 idle --members 50",
        "loadtest idle --members 50 --seconds 5 --server-pid 1 --json",
    ] {
        let setup = setup(line);
        assert!(setup.output.json && setup.server.is_some(), "{line}");
        assert_eq!(setup.scenario.measured, Duration::from_secs(5), "{line}");
        assert_eq!(setup.command.join(" "), line);
    }
    let misplaced = refusal("loadtest --members 5 idle");
    assert!(
        misplaced.contains("--members stands in the wrong place"),
        "{misplaced}"
    );
}

#[test]
fn a_scenario_is_a_command_line_that_flags_override() {
    assert_eq!(
        shape("loadtest run big-room"),
        ("fanout", 1, 1000, closed(16))
    );
    assert_eq!(
        shape("loadtest run big-room --members 500"),
        ("fanout", 1, 500, closed(16))
    );
    assert_eq!(
        shape("loadtest run big-room --rate 7"),
        ("fanout", 1, 1000, open(7.0)),
        "a rate is instead of a window"
    );
    let large = setup("loadtest --url ws://127.0.0.1:9/run run large-payload --seconds 1 --json");
    assert_eq!(large.scenario.payload_bytes, 16384);
    assert_eq!(large.scenario.measured, Duration::from_secs(1));
    assert_eq!(large.target.path, "/run");
    assert!(large.output.json);
    let small = setup("loadtest --payload 100 run large-payload");
    assert_eq!(small.scenario.payload_bytes, 100);
    assert_eq!(small.scenario.name.as_deref(), Some("large-payload"));
}

#[test]
fn every_scenario_can_be_run_and_has_its_sentence() {
    let mut count = 0;
    for entry in catalogue::all() {
        let sheet = entry.sheet().unwrap();
        let setup = setup(&format!("loadtest run {}", entry.name));
        assert_eq!(setup.mode.load().0, sheet.mode, "{}", entry.name);
        assert!(sheet.stands_for.ends_with('.'), "{}", entry.name);
        assert!(sheet.stands_for.len() > 40, "{}", entry.name);
        count += 1;
    }
    assert_eq!(count, 15);
}

#[test]
fn a_scenario_that_needs_a_wire_speaks_it() {
    let recovery = setup("loadtest run recovery --members 20");
    assert_eq!(recovery.target.wire.name, "throng");
    let members = |group: usize| recovery.scenario.groups[group].members_per_room;
    assert_eq!((members(0), members(1)), (10, 20));
    let storm = setup("loadtest run storm-recovery --wire golem");
    assert_eq!(storm.target.wire.name, "golem");
    assert!(refusal("loadtest run recovery --wire golem").contains("positions"));
}

#[test]
fn scenarios_can_be_listed_and_printed() {
    for (words, text) in [
        ("loadtest scenarios", "firehose: "),
        ("loadtest scenarios firehose", "window = 256"),
    ] {
        match ask(words) {
            Ok(Request::Print(printed)) => assert!(printed.contains(text), "{printed}"),
            other => panic!("{other:?}"),
        }
    }
    let unknown = refusal("loadtest run nonsense");
    assert!(
        unknown.contains("there is no scenario nonsense; there are big-room"),
        "{unknown}"
    );
    assert!(refusal("loadtest run /nowhere.toml").contains("cannot be read"));
}

#[test]
fn what_cannot_be_done_is_refused_with_a_sentence() {
    for (flags, sentence) in [
        (
            "--publishers 4 --window 3",
            "--window is at least --publishers",
        ),
        ("--members 2 --publishers 3", "--publishers is at most"),
        ("--rooms 1001 --members 1000", "at most 1,000,000"),
        ("--payload 33", "not between 34"),
        ("--seconds 0", "must be longer than zero"),
        ("--seconds nan", "--seconds"),
        ("--rate 0", "not between 0.001"),
        ("--rate 5 --window 3", "cannot be used with"),
        ("--members 5 --seconds 2h", "71 minutes"),
        ("idle --rate 5", "unexpected argument"),
        ("run", "NAME|FILE.toml"),
        ("knee --p99 20", "without a unit; say 20ms"),
        ("slow --members 1", "a member that publishes is not slow"),
        ("churn --members 1", "2..=1000000"),
        ("churn --window 5", "unexpected argument"),
        ("--pin 1,2", "one CPU for each of --threads"),
        ("neighbour --rate 5", "unexpected argument"),
        ("recovery --members 50", "only --wire throng has positions"),
        ("recovery --wire throng --limit 50", "without a unit"),
        ("--url ws://192.0.2.1/ws", "--i-own-this-server"),
    ] {
        let said = refusal(&format!("loadtest {flags}"));
        assert!(said.contains(sentence), "{flags}: {said}");
    }
}
