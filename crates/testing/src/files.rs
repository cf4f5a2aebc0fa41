//! Open files, of which a thousand peers in one process need many.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to what the system allows.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What does not fit fails, and says so.
    _ = setrlimit(Resource::Nofile, limit);
}
