//! The task `history restore`: new epochs for histories that were put back from a copy.

use std::io::{self, Write as _};

use crate::setup::Setup;
use crate::{Failure, USAGE, describe};

/// Draws the epochs, and prints how many there are.
pub(crate) fn run(setup: &Setup) -> Result<(), Failure> {
    let name = setup.name("history_path");
    let failure = |text| Failure { text, code: USAGE };
    let Some(disk) = setup.config().history.disk else {
        return Err(failure(format!("{name} is not set: name the directory")));
    };
    let room_count = throng::restore_histories(&disk)
        .map_err(|error| failure(format!("{name}: {}", describe(&error))))?;
    let path = disk.path.display();
    let said = format!("new epochs for {room_count} rooms in {path}\n");
    // Nothing to be done if nobody reads.
    _ = io::stdout().write_all(said.as_bytes());
    Ok(())
}
