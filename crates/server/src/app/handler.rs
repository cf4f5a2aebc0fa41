//! What can handle an event: functions, by their signatures.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use serde::de::DeserializeOwned;

use crate::app::connection::Connection;
use crate::app::data::{Data, FromData};
use crate::app::refusal::Refusal;

/// A function that handles an event. Implemented for the signatures in [`Router`](crate::Router)'s table.
#[diagnostic::on_unimplemented(
    message = "this is no event handler for connections with a state of type `{S}`",
    label = "no event handler",
    note = "a handler takes `&Connection<S>`, or `Connection<S>` if it is async, and may take the event's \
            data: a type that is `DeserializeOwned` or `FromData`, or, if it is not async, `Data<'_>`",
    note = "it returns nothing or a `Result<_, E>` where `Refusal` is `From<E>`; if it is async, its future \
            is `Send`: what is not must be dropped before an `.await`",
    note = "a closure's parameters need their types written down: `|conn: &Connection, roll: Roll|`"
)]
pub trait Handler<S, Args>: Send + Sync + 'static {
    /// Calls the function.
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply;
}

/// What came of calling a handler: it is done, or goes on.
pub struct Reply(pub(crate) Progress);

pub(crate) enum Progress {
    Done(Result<(), Refusal>),
    Pending(Handling),
}

/// A handler that goes on.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Progress::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Progress::Pending(_) => f.debug_tuple("Pending").finish_non_exhaustive(),
        }
    }
}

impl Default for Reply {
    /// There was nothing to do.
    fn default() -> Self {
        Self(Progress::Done(Ok(())))
    }
}

impl Reply {
    fn done(outcome: impl Outcome) -> Self {
        Self(Progress::Done(outcome.into_result()))
    }

    pub(crate) const fn refused(refusal: Refusal) -> Self {
        Self(Progress::Done(Err(refusal)))
    }

    fn pending<F>(future: F) -> Self
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        Self(Progress::Pending(Box::pin(async {
            future.await.into_result()
        })))
    }
}

/// What a handler returns: nothing, or a result whose error is sent back. What a result has otherwise, such as
/// how many members an event was sent to, is of no interest.
#[diagnostic::on_unimplemented(
    message = "a handler returns nothing or a `Result<_, E>` where `Refusal` is `From<E>`, not `{Self}`",
    label = "returned by a handler"
)]
pub trait Outcome {
    /// As a result.
    ///
    /// # Errors
    ///
    /// The refusal, if it is one.
    fn into_result(self) -> Result<(), Refusal>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl<T, E: Into<Refusal>> Outcome for Result<T, E> {
    fn into_result(self) -> Result<(), Refusal> {
        self.map(drop).map_err(Into::into)
    }
}

/// Marks handlers that take [`Data`].
#[derive(Debug)]
pub struct Unread;

/// Marks handlers that take what is [`FromData`].
#[derive(Debug)]
pub struct Custom<T>(PhantomData<T>);

/// Marks handlers that are async.
#[derive(Debug)]
pub struct Async<Args>(PhantomData<Args>);

impl<S, F, R> Handler<S, ()> for F
where
    F: Fn(&Connection<S>) -> R + Send + Sync + 'static,
    R: Outcome,
{
    fn call(&self, connection: &Connection<S>, _: Data<'_>) -> Reply {
        Reply::done(self(connection))
    }
}

impl<S, F, R, T> Handler<S, (T,)> for F
where
    F: Fn(&Connection<S>, T) -> R + Send + Sync + 'static,
    R: Outcome,
    T: DeserializeOwned,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        match data.parse() {
            Ok(data) => Reply::done(self(connection, data)),
            Err(error) => Reply::refused(error.into()),
        }
    }
}

impl<S, F, R> Handler<S, Unread> for F
where
    F: Fn(&Connection<S>, Data<'_>) -> R + Send + Sync + 'static,
    R: Outcome,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        Reply::done(self(connection, data))
    }
}

impl<S, F, R, T> Handler<S, Custom<T>> for F
where
    F: Fn(&Connection<S>, T) -> R + Send + Sync + 'static,
    R: Outcome,
    T: FromData,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        match T::from_data(data) {
            Ok(data) => Reply::done(self(connection, data)),
            Err(refusal) => Reply::refused(refusal),
        }
    }
}

impl<S, F, Fut> Handler<S, Async<()>> for F
where
    F: Fn(Connection<S>) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
{
    fn call(&self, connection: &Connection<S>, _: Data<'_>) -> Reply {
        Reply::pending(self(connection.clone()))
    }
}

impl<S, F, Fut, T> Handler<S, Async<(T,)>> for F
where
    F: Fn(Connection<S>, T) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
    T: DeserializeOwned,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        match data.parse() {
            Ok(data) => Reply::pending(self(connection.clone(), data)),
            Err(error) => Reply::refused(error.into()),
        }
    }
}

impl<S, F, Fut, T> Handler<S, Async<Custom<T>>> for F
where
    F: Fn(Connection<S>, T) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: Outcome,
    T: FromData,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        match T::from_data(data) {
            Ok(data) => Reply::pending(self(connection.clone(), data)),
            Err(refusal) => Reply::refused(refusal),
        }
    }
}
