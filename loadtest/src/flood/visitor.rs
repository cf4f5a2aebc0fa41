//! Somebody who asks for a page ten times a second, as a load balancer asks whether a server is
//! well.
//!
//! Each question is a connection of its own: it has to be accepted and answered, beside everything
//! else that the server does. The next is asked when the last was answered.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::Background;
use crate::clock::Clock;
use crate::tally::Latency;
use crate::target::Target;

/// Between an answer and the next question.
const INTERVAL: Duration = Duration::from_millis(100);

/// An answer that comes later is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of the questions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// From the first step of a connection to the first byte of the answer, of any status.
    pub(crate) answered: Latency,
    /// Questions without an answer.
    pub(crate) unanswered: u64,
}

/// Begins to ask the server for a page, until it is told to end.
pub(crate) fn start(clock: Clock, target: &Target, path: &str) -> Background<Answers> {
    let (target, host) = (target.clone(), &target.authority);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    Background::start(move |stop| {
        let mut answers = Answers::default();
        while !stop.load(Ordering::Relaxed) {
            let asked_ns = clock.now_ns();
            match ask(&target, request.as_bytes()) {
                Ok(()) => answers.answered.record(clock.now_ns() - asked_ns),
                Err(_) => answers.unanswered += 1,
            }
            thread::sleep(INTERVAL);
        }
        answers
    })
}

/// Asks once, and waits for the first byte of the answer.
fn ask(target: &Target, request: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target.address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    stream.read_exact(&mut [0])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::wire::Wire;

    #[test]
    fn what_is_answered_is_timed_and_what_is_not_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let target = Target::resolve(&url, false, Wire::named("golem").unwrap()).unwrap();
        let visitor = start(Clock::start(), &target, "/healthz");
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "",
        ] {
            let (mut question, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let bytes = question.read(&mut asked).unwrap();
            let asked = String::from_utf8_lossy(&asked[..bytes]);
            assert!(
                asked.starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"),
                "{asked}"
            );
            question.write_all(answer.as_bytes()).unwrap();
        }
        let answers = visitor.end();
        assert_eq!(answers.answered.count(), 2);
        assert!(answers.unanswered >= 1);
    }
}
