//! The limit of open files: each client takes three, and the usual limit is 1024.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises it as far as the system allows. If it does not, connections fail, and that is said then.
pub(crate) fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    _ = setrlimit(Resource::Nofile, raised);
}
