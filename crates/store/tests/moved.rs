//! Files that are not under their names any more while the store is open: the next commit says so,
//! and nothing is lost when they are back.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use throng_store::{CommitError, Durability, Opened, Options, Store, Vouched};

#[path = "support/again.rs"]
mod again;
#[path = "support/words.rs"]
mod words;

use again::{again, part, say};
use words::publication;

const DATABASE: &str = "histories.sqlite";
const JOURNAL: &str = "histories.sqlite-wal";
const WITNESS: &str = "histories.sqlite-witness";

const BOTH: [Durability; 2] = [Durability::Buffered, Durability::Synced];

/// A directory in another one, with a store that has one publication.
fn begun() -> (TempDir, PathBuf, Store) {
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let path = home.path().join("store");
    let mut store = open(&path).store;
    commit(&mut store, 1, Durability::Synced).expect("nothing has happened to it yet");
    (home, path, store)
}

fn open(path: &Path) -> Opened {
    Store::open(path, &Options::default()).expect("nothing has harmed it")
}

fn commit(store: &mut Store, offset: u64, durability: Durability) -> Result<(), CommitError> {
    store.commit(&[publication("tea", offset, b"hot")], durability)
}

/// Does something to an open store's files; the commit after that must say so.
#[track_caller]
fn assert_noticed(what: &str, harm: impl Fn(&Path)) {
    for durability in BOTH {
        let (_home, path, mut store) = begun();
        harm(&path);
        let error = commit(&mut store, 2, durability);
        let is_told = matches!(
            error,
            Err(CommitError::Cut { .. }
                | CommitError::Moved { .. }
                | CommitError::Unreachable { .. })
        );
        assert!(is_told, "{what}: {error:?}");
        let again = commit(&mut store, 2, durability);
        assert!(matches!(again, Err(CommitError::NeedsReopen)), "{again:?}");
    }
}

fn move_away(path: &Path) {
    fs::rename(path, path.with_extension("away")).expect("it is ours");
}

fn copy_onto_itself(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).expect("it is ours");
    fs::rename(copy, path).expect("it is ours");
}

fn cut(path: &Path) {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.set_len(0)).expect("it is ours");
}

#[test]
fn a_directory_that_was_moved_removed_or_replaced_is_noticed_by_the_next_commit() {
    assert_noticed("moved", move_away);
    assert_noticed("removed", |path| {
        fs::remove_dir_all(path).expect("it is ours");
    });
    assert_noticed("another one in its place", |path| {
        move_away(path);
        fs::create_dir(path).expect("it is ours");
    });
    assert_noticed("a copy in its place", |path| {
        move_away(path);
        fs::create_dir(path).expect("it is ours");
        for entry in fs::read_dir(path.with_extension("away")).expect("it is ours") {
            let from = entry.expect("it is ours").path();
            let to = path.join(from.file_name().expect("it was listed"));
            fs::copy(from, to).expect("it is ours");
        }
    });
    assert_noticed("what it is in was moved", |path| {
        let home = path.parent().expect("it is in another one");
        move_away(home);
        fs::create_dir(home).expect("it is ours");
    });
}

#[test]
fn a_file_that_was_removed_or_replaced_is_noticed_by_the_next_commit() {
    for name in [DATABASE, JOURNAL, WITNESS] {
        assert_noticed(&format!("{name} removed"), |path| {
            fs::remove_file(path.join(name)).expect("it is there");
        });
        assert_noticed(&format!("{name} replaced by a copy"), |path| {
            copy_onto_itself(&path.join(name));
        });
        assert_noticed(&format!("{name} emptied"), |path| cut(&path.join(name)));
    }
}

#[test]
fn a_moved_directory_that_is_back_has_what_was_reported_and_takes_the_rest() {
    let (_home, path, mut store) = begun();
    move_away(&path);
    assert!(commit(&mut store, 2, Durability::Synced).is_err());
    assert!(store.reopen().is_err(), "it is still away");
    assert!(!path.exists(), "nothing was made in its place");

    fs::rename(path.with_extension("away"), &path).expect("it is ours");
    // What was written to the moved files may be there: it was not reported.
    assert!(store.reopen().expect("it is back") <= 1);
    let all = (1..=2).map(|offset| publication("tea", offset, b"hot"));
    store.replace(all, Durability::Synced).expect("it is back");
    drop(store);

    let opened = open(&path);
    assert_eq!(opened.vouched, Vouched::Everything);
    assert_eq!(opened.rooms[0].last_offset, 2);
}

#[test]
fn another_servers_histories_are_not_written_over() {
    let (_home, path, mut store) = begun();
    let (_other_home, other_path, other) = begun();
    other.close().expect("the disk is sound");
    move_away(&path);
    fs::rename(&other_path, &path).expect("both are in one file system");
    assert!(commit(&mut store, 2, Durability::Synced).is_err());

    let refused = store.reopen();

    assert!(
        matches!(refused, Err(throng_store::OpenError::Another { .. })),
        "{refused:?}"
    );
    drop(store);
    let opened = open(&path);
    assert_eq!(opened.vouched, Vouched::Everything);
    assert_eq!(opened.rooms[0].last_offset, 1);
}

#[test]
fn what_is_replaced_is_gone_as_a_whole() {
    let (_home, path, mut store) = begun();
    let records = (1..=3).map(|offset| publication("milk", offset, b"cold"));

    store
        .replace(records, Durability::Buffered)
        .expect("the disk is sound");
    drop(store);

    let rooms = open(&path).rooms;
    assert_eq!(rooms.len(), 1, "{rooms:?}");
    assert_eq!((&*rooms[0].name, rooms[0].last_offset), ("milk", 3));
}

/// Root may do anything, so the part that may not is another user's.
#[test]
fn a_directory_or_file_whose_rights_were_taken_is_noticed_by_the_next_commit() {
    if let Some((directory, _)) = part() {
        return write_without_rights(&directory);
    }
    let home = tempfile::tempdir().expect("there is a temporary directory");
    let test = "a_directory_or_file_whose_rights_were_taken_is_noticed_by_the_next_commit";
    let mut command = again(test, home.path(), 0);
    if chown(home.path(), Some(NOBODY), Some(NOBODY)).is_ok() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let child = command.spawn().expect("the test can start itself");
    let output = child.wait_with_output().expect("it was started here");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn write_without_rights(directory: &Path) {
    let home = directory.join("home");
    let path = home.join("store");
    let mut store = open(&path).store;
    let mut offset = 0;
    let set = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    };
    let cases = [
        (home, 0o700),
        (path.clone(), 0o700),
        (path.join(DATABASE), 0o600),
        (path.join(JOURNAL), 0o600),
        (path.join(WITNESS), 0o600),
    ];
    for (place, mode) in cases {
        offset += 1;
        commit(&mut store, offset, Durability::Synced).expect("all have their rights");
        say(&format!("without {}", place.display()));
        set(&place, 0);

        offset += 1;
        let error = commit(&mut store, offset, Durability::Synced);

        assert!(
            matches!(error, Err(CommitError::Unreachable { .. })),
            "{}: {error:?}",
            place.display()
        );
        assert!(store.reopen().is_err(), "{}", place.display());
        set(&place, mode);
        if store.reopen().expect("it has its rights again") == 1 {
            offset -= 1;
        }
    }
    store.close().expect("the disk is sound");
}

const NOBODY: u32 = 65_534;
