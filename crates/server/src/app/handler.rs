//! What can handle an event: functions, by their signatures.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::connection::Connection;
use crate::app::data::{Data, FromData};
use crate::app::refusal::Refusal;

/// A function that handles an event. Implemented for the signatures in [`Router`](crate::Router)'s
/// table.
#[diagnostic::on_unimplemented(
    message = "this is no event handler for connections with a state of type `{S}`",
    label = "no event handler",
    note = "a handler takes `&Connection<S>`, or `Connection<S>` if it is async, and may take the \
            event's data: a type that is `DeserializeOwned` or `FromData`, or, if it is not \
            async, `Data<'_>`",
    note = "it returns nothing or a `Result<T, E>` where `T` is `Serialize + Send` and `Refusal` \
            is `From<E>`; if it is async, its future is `Send`: what is not must be dropped \
            before an `.await`",
    note = "a closure's parameters need their types written down: `|conn: &Connection, roll: Roll|`"
)]
pub trait Handler<S, Args>: Send + Sync + 'static {
    /// Calls the function.
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply;
}

/// The outcome of calling a handler: it is done, or goes on.
pub struct Reply(pub(crate) Progress);

pub(crate) enum Progress {
    Done(Result<Output, Refusal>),
    Pending(Handling),
}

/// A handler that goes on.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Result<Output, Refusal>> + Send>>;

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Progress::Done(result) => f.debug_tuple("Done").field(&result.as_ref().err()).finish(),
            Progress::Pending(_) => f.debug_tuple("Pending").finish_non_exhaustive(),
        }
    }
}

impl Default for Reply {
    /// Returns the reply of a handler that had nothing to do.
    fn default() -> Self {
        Self(Progress::Done(Ok(Output(None))))
    }
}

impl Reply {
    fn done(outcome: impl Outcome, is_asked: bool) -> Self {
        Self(Progress::Done(outcome.into_output(is_asked)))
    }

    pub(crate) const fn refused(refusal: Refusal) -> Self {
        Self(Progress::Done(Err(refusal)))
    }

    fn pending<F>(future: F, is_asked: bool) -> Self
    where
        F: Future + Send + 'static,
        F::Output: Outcome,
    {
        Self(Progress::Pending(Box::pin(async move {
            future.await.into_output(is_asked)
        })))
    }
}

/// The value that a handler gives back to whoever asked; nothing, if nobody did.
pub struct Output(pub(crate) Option<Box<dyn erased_serde::Serialize + Send>>);

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Output").field(&self.0.is_some()).finish()
    }
}

/// The type that a handler returns: nothing, or a result.
///
/// A value goes to the sender as the answer to its request, if the event had an `id` and the
/// sender speaks throng.v1; otherwise nobody sees it. An error is sent back as an `error` event.
#[diagnostic::on_unimplemented(
    message = "a handler returns nothing or a `Result<T, E>` where `T` is `Serialize + Send + \
               'static` and `Refusal` is `From<E>`, not `{Self}`",
    label = "returned by a handler"
)]
pub trait Outcome {
    /// Returns what the sender is given. `is_asked` says whether it waits for that.
    ///
    /// # Errors
    ///
    /// The refusal, if it is one.
    fn into_output(self, is_asked: bool) -> Result<Output, Refusal>;
}

impl Outcome for () {
    fn into_output(self, _: bool) -> Result<Output, Refusal> {
        Ok(Output(None))
    }
}

impl<T, E> Outcome for Result<T, E>
where
    T: Serialize + Send + 'static,
    E: Into<Refusal>,
{
    fn into_output(self, is_asked: bool) -> Result<Output, Refusal> {
        let value = self.map_err(Into::into)?;
        // A type without a size has nothing to say.
        let has_data = is_asked && size_of::<T>() > 0;
        Ok(Output(has_data.then(|| Box::new(value) as Box<_>)))
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
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        Reply::done(self(connection), data.is_asked())
    }
}

impl<S, F, R, T> Handler<S, (T,)> for F
where
    F: Fn(&Connection<S>, T) -> R + Send + Sync + 'static,
    R: Outcome,
    T: DeserializeOwned,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        let is_asked = data.is_asked();
        match data.parse() {
            Ok(data) => Reply::done(self(connection, data), is_asked),
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
        let is_asked = data.is_asked();
        Reply::done(self(connection, data), is_asked)
    }
}

impl<S, F, R, T> Handler<S, Custom<T>> for F
where
    F: Fn(&Connection<S>, T) -> R + Send + Sync + 'static,
    R: Outcome,
    T: FromData,
{
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        let is_asked = data.is_asked();
        match T::from_data(data) {
            Ok(data) => Reply::done(self(connection, data), is_asked),
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
    fn call(&self, connection: &Connection<S>, data: Data<'_>) -> Reply {
        Reply::pending(self(connection.clone()), data.is_asked())
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
        let is_asked = data.is_asked();
        match data.parse() {
            Ok(data) => Reply::pending(self(connection.clone(), data), is_asked),
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
        let is_asked = data.is_asked();
        match T::from_data(data) {
            Ok(data) => Reply::pending(self(connection.clone(), data), is_asked),
            Err(refusal) => Reply::refused(refusal),
        }
    }
}
