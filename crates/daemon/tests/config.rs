//! The configuration of the binary: flags, environment variables and the file, which of them goes
//! before which, and what is said of a file that cannot be used.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "support/binary.rs"]
mod binary;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use binary::Binary;
use throng_testing::Client;

/// A configuration file, removed when dropped.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("{name}-{}.toml", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // Nothing to be done if somebody was faster.
        _ = fs::remove_file(&self.0);
    }
}

/// Returns what `check-config` prints for this command.
fn checked(command: &mut Command) -> String {
    let output = command.arg("check-config").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns what `check-config` prints for the file alone.
fn checked_file(path: &str) -> String {
    checked(Binary::command().args(["--config", path]))
}

/// The settings in what `check-config` prints: key, value and where it came from.
fn settings(printed: &str) -> Vec<(&str, &str, &str)> {
    let lines = printed.lines().filter(|line| line.contains(" = "));
    lines
        .map(|line| {
            let (setting, source) = line.rsplit_once("  # ").unwrap();
            let (key, value) = setting.split_once(" = ").unwrap();
            (key, value, source)
        })
        .collect()
}

/// The settings without where they came from.
fn values(printed: &str) -> Vec<(&str, &str)> {
    let settings = settings(printed).into_iter();
    settings.map(|(key, value, _)| (key, value)).collect()
}

fn assert_all_from(source: &str, printed: &str) {
    let others: Vec<_> = settings(printed)
        .into_iter()
        .filter(|(_, _, other)| *other != source)
        .collect();
    assert_eq!(others, []);
}

#[test]
fn every_setting_is_a_key_a_variable_and_a_flag_each_before_the_last() {
    let defaults = checked(&mut Binary::command());
    assert_all_from("default", &defaults);
    assert!(settings(&defaults).len() > 30, "{defaults}");

    let file = ConfigFile::new("every", &defaults);
    let in_file = checked_file(file.path());
    assert_all_from("file", &in_file);
    assert_eq!(values(&in_file), values(&defaults));

    let mut command = Binary::command();
    command.env("THRONG_CONFIG", file.path());
    for (key, value) in values(&defaults) {
        command.env(format!("THRONG_{}", key.to_uppercase()), typed(value));
    }
    let in_environment = checked(&mut command);
    assert_all_from("environment", &in_environment);
    assert_eq!(values(&in_environment), values(&defaults));

    for (key, value) in values(&defaults) {
        command.arg(format!("--{}={}", key.replace('_', "-"), typed(value)));
    }
    // Behind the task, which the command has been given.
    let output = command.output().unwrap();
    let as_flags = String::from_utf8(output.stdout).unwrap();
    assert_all_from("flag", &as_flags);
    assert_eq!(values(&as_flags), values(&defaults));
}

/// A value as one would type it.
fn typed(value: &str) -> String {
    match value.trim_matches(['[', ']']) {
        "" => value.to_owned(),
        text => text.replace('"', ""),
    }
}

#[test]
fn a_flag_that_needs_no_value_takes_none_from_what_follows() {
    let mut command = Binary::command();
    let output = command.args(["--pin", "check-config"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("pin = true  # flag\n"), "{printed}");
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file() {
    let file = ConfigFile::new("order", "cores = 1\npath = \"/1\"\ndrain_rate = 1\n");
    let mut command = Binary::command();
    command
        .args(["--config", file.path()])
        .env("THRONG_CONFIG", "/no/such/file")
        .envs([("THRONG_PATH", "/2"), ("THRONG_DRAIN_RATE", "2")])
        .arg("--drain-rate=3");
    let printed = checked(&mut command);
    for line in [
        "cores = 1  # file\n",
        "path = \"/2\"  # environment\n",
        "drain_rate = 3  # flag\n",
        "max_keys = 10000  # default\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn what_is_printed_can_be_used_as_the_file() {
    let mut command = Binary::command();
    command
        .args(["--listen", r"127.0.0.1:0,unix:/run/back\slash.sock"])
        .args(["--log", "info,throng=debug", "--pin=true"])
        .args(["--origins", "same,https://*.example.com,http://localhost:*"])
        .envs([("THRONG_CORES", "007"), ("THRONG_PING_INTERVAL_S", ".5")])
        .env("THRONG_KEY_WINDOW_S", "1e3")
        .env(
            "THRONG_ROOMS",
            r#"[{match = 'a"b*', history_age_s = 0.25, slow_consumer = "skip"}, {match = "c"}]"#,
        );
    let printed = checked(&mut command);
    for line in [
        "listen = [\"127.0.0.1:0\", 'unix:/run/back\\slash.sock']  # flag\n",
        "pin = true  # flag\n",
        "origins = [\"same\", \"https://*.example.com\", \"http://localhost:*\"]  # flag\n",
        "cores = 7  # environment\n",
        "ping_interval_s = 0.5  # environment\n",
        "key_window_s = 1000  # environment\n",
        "\n[[rooms]]\nmatch = 'a\"b*'  # environment\nhistory_age_s = 0.25  # environment\n\
         slow_consumer = \"skip\"  # environment\n",
        "\n[[rooms]]\nmatch = \"c\"  # environment\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let file = ConfigFile::new("printed", &printed);
    let again = checked_file(file.path());
    assert_eq!(values(&again), values(&printed));
    assert_all_from("file", &again);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_by_line_and_key_and_by_the_server_too() {
    for (case, (text, wanted)) in [
        (
            "cores = 1\n\nmax_keyz = 5\n",
            "3: unknown setting \"max_keyz\"; did you mean \"max_keys\"?",
        ),
        ("cores = 257\n", "1: cores: 257 is not in 0..=256"),
        ("path = 5\n", "1: path: must be a string, not an integer"),
        (
            "cores = 1\n[[rooms]]\nmatch = \"a\"\nmax_keys = -1\n",
            "4: max_keys of \"a\": must not be negative",
        ),
        ("cores = 1\ncores = 2\n", "2: cores: duplicate key"),
    ]
    .into_iter()
    .enumerate()
    {
        let file = ConfigFile::new(&format!("refused-{case}"), text);
        for task in [&["check-config"][..], &[]] {
            let mut command = Binary::command();
            command.args(["--config", file.path()]).args(task);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{text}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(stderr, format!("error: {}:{wanted}\n", file.path()));
            assert!(output.stdout.is_empty(), "{text}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for path in ["/no/such/file.toml", env!("CARGO_TARGET_TMPDIR")] {
        let mut command = Binary::command();
        let output = command.env("THRONG_CONFIG", path).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let wanted = format!("error: THRONG_CONFIG: {path} cannot be read: ");
        assert!(stderr.starts_with(&wanted), "{stderr}");
    }
}

#[test]
fn the_classes_of_the_variable_replace_those_of_the_file() {
    let file = ConfigFile::new("classes", "[[rooms]]\nmatch = \"of-the-file\"\n");
    let mut command = Binary::command();
    command.args(["--config", file.path()]);
    assert!(checked(&mut command).contains("match = \"of-the-file\"  # file\n"));
    for (classes, wanted) in [
        (
            r#"[{match = "cursor:*", slow_consumer = "latest"}]"#,
            "match = \"cursor:*\"  # environment\nslow_consumer = \"latest\"  # environment\n",
        ),
        ("[]", "\nrooms = []  # environment\n"),
    ] {
        let mut command = Binary::command();
        command.args(["--config", file.path()]);
        let printed = checked(command.env("THRONG_ROOMS", classes));
        assert!(printed.contains(wanted), "{printed}");
        assert!(!printed.contains("of-the-file"), "{printed}");
    }
}

#[test]
fn classes_in_a_variable_that_cannot_be_used_are_refused_on_one_line() {
    for (classes, wanted) in [
        ("5", "rooms: must be tables [[rooms]], or an array"),
        ("[5]", "rooms: must be tables [[rooms]], or an array"),
        ("[", "unclosed array"),
        ("[{max_keys = 1}]", "match: is missing"),
        (
            r#"[{match = "a", slow = "skip"}]"#,
            r#"match = "a": unknown room setting "slow"; did you mean "slow_consumer"?"#,
        ),
        (
            r#"[{match = "a", history_byte = 1}]"#,
            r#"match = "a": unknown room setting "history_byte"; did you mean "history_bytes"?"#,
        ),
    ] {
        let mut command = Binary::command();
        let output = command.env("THRONG_ROOMS", classes).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        let wanted = format!("error: THRONG_ROOMS={classes} is not valid: {wanted}");
        assert!(stderr.starts_with(&wanted), "{stderr}");
    }
}

#[test]
fn a_variable_of_the_wrong_kind_is_refused_with_what_it_may_be() {
    for (variable, value, wanted) in [
        ("THRONG_PIN", "yes", "=yes is not valid: use true or false"),
        (
            "THRONG_CORES",
            "0x1",
            "=0x1 is not valid: use a whole number",
        ),
        (
            "THRONG_CORES",
            "-1",
            "=-1 is not valid: must not be negative",
        ),
        (
            "THRONG_CORES",
            "257",
            "=257 is not valid: 257 is not in 0..=256",
        ),
        (
            "THRONG_MAX_KEYS",
            "99999999999999999999",
            "=99999999999999999999 is not valid: the number is too large",
        ),
        (
            "THRONG_ALLOWED_HOSTS",
            "",
            " is empty: set a value, or unset it for the default",
        ),
    ] {
        let mut command = Binary::command();
        let output = command.env(variable, value).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr, format!("error: {variable}{wanted}\n"));
    }
}

#[test]
fn the_log_says_which_file_was_read_and_what_is_so_of_which_rooms() {
    let file = ConfigFile::new(
        "log",
        "listen = [\"127.0.0.1:0\"]\nmax_keys = 5\n\
         [[rooms]]\nmatch = \"ticker:*\"\nslow_consumer = \"latest\"\n",
    );
    let binary = Binary::start(&[("THRONG_CONFIG", file.path())]);
    binary.wait_for_line(file.path());
    let ticker = binary.wait_for_line("rooms=\"ticker:*\"");
    let other = binary.wait_for_line("rooms=\"*\"");
    assert!(ticker.contains("slow_consumer=latest"), "{ticker}");
    assert!(other.contains("slow_consumer=disconnect"), "{other}");
    for class in [&ticker, &other] {
        assert!(class.contains("keys_max=5"), "{class}");
    }
    binary.wait_for_line("listening on http://127.0.0.1:");
}

#[test]
fn an_address_of_the_file_that_cannot_be_had_is_said_to_be_the_files() {
    let file = ConfigFile::new("address", "listen = [\"192.0.2.1:80\"]\n");
    let mut command = Binary::command();
    let output = command.args(["--config", file.path()]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let wanted = format!("error: {}: listen=192.0.2.1:80: ", file.path());
    assert!(stderr.starts_with(&wanted), "{stderr}");
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/throng.toml");
    let printed = checked_file(example.to_str().unwrap());
    let classes = values(&printed);
    let classes = classes.iter().filter(|(key, _)| *key == "match");
    assert!(classes.count() > 1, "{printed}");

    let text = fs::read_to_string(&example).unwrap();
    let is_setting =
        |line: &&str| line.starts_with('#') && line[1..].starts_with(char::is_lowercase);
    let lines = text.lines().filter(is_setting);
    let every: String = lines.map(|line| format!("{}\n", &line[1..])).collect();
    let file = ConfigFile::new("example", &(every + "rooms = []\n"));
    let in_file = checked_file(file.path());
    assert_all_from("file", &in_file);
    let default = checked(&mut Binary::command());
    // What has no default stands in the example with a value that might be one.
    let has_none = |key: &str| default.contains(&format!("# {key} is not set\n"));
    let mut in_file = values(&in_file);
    in_file.retain(|(key, _)| !has_none(key));
    assert_eq!(in_file, values(&default));
}

#[test]
fn the_examples_of_the_manual_can_be_used() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
    let text = fs::read_to_string(page).unwrap();
    let examples = text.split("```toml\n").skip(1);
    let mut count = 0;
    for example in examples.map(|rest| rest.split("```").next().unwrap()) {
        let file = ConfigFile::new(&format!("manual-{count}"), example);
        let printed = checked_file(file.path());
        assert!(printed.contains("  # file\n"), "{printed}");
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn a_variable_that_no_setting_has_is_said_and_the_server_starts() {
    let variables = [("THRONG_MAX_CONECTIONS", "5"), ("THRONG_PORT", "secret")];
    let (server, _) = Binary::serve(&variables);
    drop(server);
    let server = Binary::start(&[&[("THRONG_LISTEN", "127.0.0.1:0")][..], &variables].concat());
    let line = server.wait_for_line("THRONG_MAX_CONECTIONS");
    assert!(
        line.contains("WARN") && line.contains("did you mean THRONG_MAX_CONNECTIONS?"),
        "{line}"
    );
    let line = server.wait_for_line("THRONG_PORT");
    assert!(!line.contains("secret"), "{line}");
    server.wait_for_line("listening on");

    let output = Binary::command()
        .envs(variables)
        .arg("check-config")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(0), 2));
    assert!(stderr.starts_with("warning: unknown variable"), "{stderr}");
}

/// Waits until the server has done what it was asked before.
fn settle(client: &mut Client) {
    client.send("dance");
    client.expect_error("unknown_event");
}

/// A server with this file, and this flag before it.
fn serve_with(file: &ConfigFile) -> (Binary, SocketAddr) {
    Binary::serve(&[
        ("THRONG_CONFIG", file.path()),
        ("THRONG_MAX_KEYS", "7"),
        ("THRONG_DRAIN_SPREAD_S", "0"),
    ])
}

#[test]
fn sighup_reads_the_file_again_and_says_what_changed_and_what_needs_a_restart() {
    let file = ConfigFile::new("again", "max_connections = 100\nmax_keys = 1\n");
    let (mut server, address) = serve_with(&file);
    let mut alice = Client::connect(address);
    settle(&mut alice);
    let new = "max_connections = 1\nmax_keys = 2\nclose_timeout_s = 1\nmax_message_bytes = 50\n\
               [[rooms]]\nmatch = \"chat:*\"\nhistory_publications = 3\n";
    fs::write(file.path(), new).unwrap();
    server.signal("HUP");
    // A variable goes before the file still.
    let changed = ["max_message_bytes", "max_connections", "rooms"].map(|key| {
        let line = server.wait_for_line("setting changed");
        assert!(line.contains(&format!("key=\"{key}\"")), "{line}");
        line
    });
    assert!(changed[1].contains("from=\"100\" to=\"1\""), "{changed:?}");
    assert!(changed[2].contains("chat:*"), "{changed:?}");
    let line = server.wait_for_line("needs a restart");
    assert!(line.contains("close_timeout_s"), "{line}");
    server.wait_for_line("changed=3 needs_restart=1");
    settle(&mut alice);
    assert_eq!(throng_testing::get(address, "/ws").status, 426);
    alice.say("tea", &"x".repeat(50));
    alice.expect_close(1009);
    drop(alice);

    // What needs a restart is otherwise still, and what changed is not.
    server.signal("HUP");
    server.wait_for_line("changed=0 needs_restart=1");
    fs::write(file.path(), "").unwrap();
    server.signal("HUP");
    server.wait_for_line("changed=3 needs_restart=0");
    Client::connect(address).say("tea", &"x".repeat(50));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_file_that_is_not_valid_changes_nothing_and_is_said_why() {
    let file = ConfigFile::new("harm", "max_message_bytes = 50\n");
    let (server, address) = serve_with(&file);
    for (text, why) in [
        (
            "max_message_bytes = 100\nmax_keyz = 1\n",
            ":2: unknown setting \"max_keyz\"",
        ),
        (
            "max_message_bytes = 100\nlog = \"warning\"\n",
            ":2: log: \"warning\" is not a level",
        ),
        (
            "max_message_bytes = 100\nhistory_fsync = \"always\"\n",
            "history_fsync: always needs history_path",
        ),
    ] {
        fs::write(file.path(), text).unwrap();
        server.signal("HUP");
        let line = server.wait_for_line("configuration not reloaded");
        assert!(line.contains("ERROR") && line.contains(why), "{line}");
    }
    fs::remove_file(file.path()).unwrap();
    server.signal("HUP");
    let line = server.wait_for_line("configuration not reloaded");
    assert!(line.contains("cannot be read"), "{line}");
    let mut alice = Client::connect(address);
    alice.say("tea", &"x".repeat(50));
    alice.expect_close(1009);
}

#[test]
fn a_file_that_takes_for_ever_to_open_holds_up_no_signal() {
    let file = ConfigFile::new("pipe", "max_message_bytes = 50\n");
    let (mut server, address) = serve_with(&file);
    fs::remove_file(file.path()).unwrap();
    let made = Command::new("mkfifo").arg(file.path()).status().unwrap();
    assert!(made.success());
    // Nobody will ever write to it.
    server.signal("HUP");
    settle(&mut Client::connect(address));
    server.signal("TERM");
    server.wait_for_line("draining");
    assert!(server.wait().success());
}

#[test]
fn the_log_says_more_or_less_when_the_file_says_so() {
    let file = ConfigFile::new("level", "");
    let (server, address) = serve_with(&file);
    fs::write(file.path(), "log = \"error\"\nmax_message_bytes = 50\n").unwrap();
    server.signal("HUP");
    throng_testing::until(
        || {
            let mut alice = Client::connect(address);
            alice.say("tea", &"x".repeat(50));
            alice.send("dance");
            alice.receive_or_close().is_err().then_some(())
        },
        || "the file should have been read".to_owned(),
    );
    fs::write(file.path(), "max_message_bytes = 50\n").unwrap();
    server.signal("HUP");
    let line = server.wait_for_line("");
    let wanted = "setting changed key=\"log\" from=\"\\\"error\\\"\" to=\"\\\"info\\\"\"";
    assert!(line.contains(wanted), "the first since it listens: {line}");
}
