//! What the application wants to know of connections, and the cores answer.

use std::any::Any;
use std::sync::Arc;

use rooms::{ConnectionId, CoreId, Overloaded, RoomKey, Space};
use tokio::sync::oneshot;

use crate::app::application::State;
use crate::app::connection::{Connection, Peer};
use crate::config::Config;
use crate::engine::Engine;

/// Connections of one core, with what is kept for them.
pub(crate) type Found = Vec<(ConnectionId, State)>;

/// A question to a core. To drop it says that there is no answer.
#[derive(Debug)]
pub(crate) enum Question {
    /// All open connections; or those in the room that the question is about.
    Connections(oneshot::Sender<Found>),
    /// No question, but what is in force from now on.
    Reload(Arc<Config>),
    /// The rooms of a space that a connection is in.
    Rooms {
        connection: ConnectionId,
        space: Space,
        answer: oneshot::Sender<Vec<Arc<str>>>,
    },
}

/// Asks for the members of a room.
///
/// # Errors
///
/// [`Overloaded`] outside of handlers; nobody was asked.
pub(crate) fn members(
    engine: &Engine,
    room: RoomKey<'_>,
) -> Result<Vec<oneshot::Receiver<Found>>, Overloaded> {
    let mut answers = Vec::new();
    engine.ask_members(room, |_| {
        let (sender, answer) = oneshot::channel();
        answers.push(answer);
        Box::new(Question::Connections(sender)) as Box<dyn Any + Send>
    })?;
    Ok(answers)
}

/// Asks for all connections.
///
/// # Errors
///
/// [`Overloaded`] outside of handlers; what was asked before goes nowhere.
pub(crate) fn all(
    engine: &Engine,
    core_count: usize,
) -> Result<Vec<oneshot::Receiver<Found>>, Overloaded> {
    let cores = (0..=u8::MAX).map(CoreId).take(core_count);
    let answers = cores.map(|core| {
        let (sender, answer) = oneshot::channel();
        engine.ask_core(core, Box::new(Question::Connections(sender)))?;
        Ok(answer)
    });
    answers.collect()
}

/// Asks for the rooms of a connection.
///
/// # Errors
///
/// [`Overloaded`] outside of handlers; nobody was asked.
pub(crate) fn rooms_of(
    engine: &Engine,
    connection: ConnectionId,
    space: Space,
) -> Result<oneshot::Receiver<Vec<Arc<str>>>, Overloaded> {
    let (sender, answer) = oneshot::channel();
    let question = Question::Rooms {
        connection,
        space,
        answer: sender,
    };
    engine.ask_core(connection.core(), Box::new(question))?;
    Ok(answer)
}

/// Waits for the answers of the cores. One that has ended has no connections.
///
/// # Panics
///
/// If what is kept for connections is no `S`.
pub(crate) async fn connections<S: Send + Sync + 'static>(
    engine: &Arc<Engine>,
    answers: Vec<oneshot::Receiver<Found>>,
) -> Vec<Connection<S>> {
    let mut connections = Vec::new();
    for answer in answers {
        let found = answer.await.unwrap_or_default().into_iter();
        connections.extend(found.map(|(id, state)| {
            Connection {
                peer: Peer {
                    id,
                    engine: engine.clone(),
                },
                state: state
                    .downcast()
                    .unwrap_or_else(|_| panic!("the router keeps something else for connections")),
            }
        }));
    }
    connections
}
