//! A chat in a terminal: lines go to a room, what others say comes back.
//!
//! `cargo run -p throng-client --example terminal -- ws://127.0.0.1:8080/ws lobby`

use std::error::Error;

use futures_util::StreamExt as _;
use throng_client::{Connection, Options, Publication, Start, State, Status};
use throng_client::{Notice, Room};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://127.0.0.1:8080/ws".to_owned());
    let name = arguments.next().unwrap_or_else(|| "lobby".to_owned());

    let connection = Connection::open(&url, Options::default())?;
    let room = connection.room(&name);
    let mut notices = connection.notices(100);
    // Made before the room is joined, so that it has what was said before.
    let mut publications = room.publications(1000);
    let mut lines = BufReader::new(stdin()).lines();
    let joining = room.join(Start::Last(20));
    tokio::pin!(joining);
    let mut is_joined = false;
    loop {
        tokio::select! {
            joined = &mut joining, if !is_joined => {
                say(&format!("joined at {}", joined?.position.offset));
                is_joined = true;
            }
            line = lines.next_line() => match line? {
                Some(line) => publish(&room, line),
                None => break,
            },
            publication = publications.next() => match publication {
                Some(publication) => show(&publication?),
                None => break,
            },
            Some(notice) = notices.next() => if let Notice::Status(status) = notice? {
                show_status(&status);
            },
        }
    }
    connection.close().await;
    Ok(())
}

/// Publishes a line, and says so if that fails.
fn publish(room: &Room, line: String) {
    let publishing = room.publish(&line);
    tokio::spawn(async move {
        if let Err(error) = publishing.await {
            say(&format!("not sent: {line:?}: {error}"));
        }
    });
}

fn show(publication: &Publication) {
    if let Some(gap) = &publication.gap {
        say(&format!("missing: {:?} {:?}", gap.reason, gap.offsets));
    }
    let from = publication.from.as_deref().unwrap_or("the server");
    say(&format!("{from}: {}", publication.data.as_str()));
}

fn show_status(status: &Status) {
    if let State::Waiting { .. } = status.state {
        say(&format!("away: {:?}", status.end));
    }
}

#[expect(clippy::print_stdout, reason = "it talks to the person who started it")]
fn say(text: &str) {
    println!("{text}");
}
