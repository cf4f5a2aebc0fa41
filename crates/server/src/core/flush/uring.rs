//! Many sends in one system call.
//!
//! The only file with `unsafe`. Its proof rests on one rule: what is submitted has completed before
//! [`Uring::send_all`] returns, so the kernel never holds a pointer to memory whose borrow has
//! ended. Every send says `MSG_DONTWAIT`, so waiting for the completions does not wait for peers.
//! That the socket is non-blocking would not do: io_uring waits for such sockets itself, and a
//! vectored write (`Writev`) to a full one would hold up the core until its peer reads.
#![expect(
    unsafe_code,
    reason = "io_uring takes pointers; the doc of the file has the proof"
)]

use std::fmt;
use std::io;
use std::os::fd::AsRawFd as _;
use std::process::abort;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};

use super::{APART, Bytes, Results, Send};

/// Sends in one submission. At 5 us each that is a third of a millisecond: more would not make the
/// system call cheaper, and fairness needs the loop to come round.
const BATCH: u32 = 64;

/// Neither wait nor raise SIGPIPE.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// A ring, empty between calls. Used only on the thread that made it.
pub(crate) struct Uring {
    ring: IoUring,
    codes: [i32; BATCH as usize],
    /// The headers of a batch's vectored sends.
    headers: Box<[libc::msghdr; BATCH as usize]>,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").finish_non_exhaustive()
    }
}

impl Uring {
    /// Makes a ring, if the kernel allows it.
    ///
    /// # Errors
    ///
    /// The system call's: forbidden by seccomp or sysctl, or an older kernel than 6.1.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(BATCH)?;
        let headers = Box::new([empty_header(); BATCH as usize]);
        Ok(Self {
            ring,
            codes: [0; BATCH as usize],
            headers,
        })
    }

    /// Writes to each socket once; pushes one result for each, in order. Returns the number of
    /// system calls.
    pub(crate) fn send_all(&mut self, sends: &[Send<'_>], results: &mut Results) -> u64 {
        let mut calls = 0;
        for batch in sends.chunks(BATCH as usize) {
            for (index, send) in batch.iter().enumerate() {
                let entry = entry(send, &mut self.headers[index]);
                self.push(&entry.user_data(index as u64));
            }
            calls += self.complete(batch.len());
            results.extend(self.codes[..batch.len()].iter().map(|code| match code {
                0.. => Ok(code.unsigned_abs() as usize),
                _ => Err(io::Error::from_raw_os_error(-code)),
            }));
        }
        calls
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the entry points to bytes, or by a header in `self.headers` to a slice of
        // `IoSlice`s, borrowed by the `Send` that it was made from, whose descriptor is borrowed
        // too. `send_all` holds these borrows, changes a header only for another batch, and calls
        // `complete` before it returns, which returns only after as many completions as entries
        // were pushed, and otherwise ends the process. Nothing between can unwind.
        let pushed = unsafe { self.ring.submission().push(entry) };
        if pushed.is_err() {
            // The ring has BATCH entries and is empty before each batch.
            abort();
        }
    }

    /// Submits what was pushed and waits until all of it has completed.
    fn complete(&mut self, count: usize) -> u64 {
        let mut calls = 0;
        let mut completed = 0;
        while completed < count {
            calls += 1;
            match self.ring.submit_and_wait(count - completed) {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                // The kernel may hold pointers that become invalid if this returned.
                Err(_) => abort(),
            }
            for completion in self.ring.completion() {
                let index = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                if let Some(code) = self.codes.get_mut(index) {
                    *code = completion.result();
                }
                completed += 1;
            }
        }
        calls
    }
}

/// Returns whether a submission may be tried again: interrupted, or out of memory for now.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, ResourceBusy, WouldBlock};
    matches!(
        error.kind(),
        Interrupted | OutOfMemory | ResourceBusy | WouldBlock
    )
}

fn entry(send: &Send<'_>, header: &mut libc::msghdr) -> squeue::Entry {
    let socket = Fd(send.socket.as_raw_fd());
    let flags = if send.is_apart { FLAGS | APART } else { FLAGS };
    match &send.bytes {
        Bytes::One(bytes) => {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(socket, bytes.as_ptr(), len)
                .flags(flags)
                .build()
        }
        Bytes::Many(slices) => {
            // `IoSlice` has the layout of `iovec` on Unix: std promises it. The kernel only reads.
            header.msg_iov = slices.as_ptr().cast_mut().cast();
            header.msg_iovlen = slices.len();
            let header = std::ptr::from_ref(header);
            opcode::SendMsg::new(socket, header)
                .flags(flags.cast_unsigned())
                .build()
        }
    }
}

/// Returns a header without an address, slices or control data.
fn empty_header() -> libc::msghdr {
    // SAFETY: `msghdr` is a C struct of integers and pointers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}
