//! What the application's own HTTP service answers: all that is neither the WebSocket, nor a page,
//! nor ours.
//!
//! It is called on the cores' threads, beside the loop. What it does wrong is its request's end and
//! nobody else's: an error or a panic is answered with 500, and a panic in the middle of an answer
//! closes that connection.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tower_service::Service;

use crate::accept::visit::Visit;
use crate::clock;
use crate::log_limit::LogLimit;
use crate::panics::{self, Panicked};

/// An error of the application's, whatever it is.
pub(crate) type AnyError = Box<dyn Error + Send + Sync>;

/// The body of an answer of the service's.
type ServiceBody = UnsyncBoxBody<Bytes, AnyError>;

/// A service that has not answered.
#[derive(Debug)]
pub(crate) struct Failed;

/// The application's service.
#[derive(Clone)]
pub(crate) struct Fallback {
    begin: Arc<Begin>,
    /// Limit of the log lines about its errors.
    said: Arc<Mutex<LogLimit>>,
}

/// Begins to answer a request.
type Begin = dyn Fn(Request<Incoming>) -> Answering + Send + Sync;

type Answering = Pin<Box<dyn Future<Output = Result<Response<ServiceBody>, AnyError>> + Send>>;

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").finish_non_exhaustive()
    }
}

impl Fallback {
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<AnyError>,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<AnyError>,
    {
        let begin = move |request| -> Answering {
            // Each request has a clone of its own, as services are meant to be used.
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx))
                    .await
                    .map_err(Into::into)?;
                let answer = service.call(request).await.map_err(Into::into)?;
                Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
            })
        };
        Self {
            begin: Arc::new(begin),
            said: Arc::default(),
        }
    }

    /// Answers a request with the service, on the visit's time.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        visit: Arc<Visit>,
    ) -> Result<Response<Paced>, Failed> {
        // A service may panic when it is called, or later.
        let answering = async { (self.begin)(request).await };
        let answered = panics::catch_in(WHAT, answering).await;
        let answer = answered.map_err(|Panicked| Failed)?.map_err(|error| {
            let times = self.said.lock().happened(clock::now());
            if let Some(times) = times {
                let error = crate::explain(&*error);
                tracing::error!(error, times, "the fallback service failed");
            }
            Failed
        })?;
        Ok(answer.map(|body| Paced::new(body, visit)))
    }
}

/// The name in the log of what panicked.
const WHAT: &str = "the fallback service";

/// The most that a peer is given to take within a visit's time, in bytes: at the default of 30
/// seconds, whoever takes 2.2 kB a second gets all of an answer, however large.
const PIECE_LEN_MAX: usize = 64 * 1024;

/// A body that is handed out in pieces, and tells the visit's clock whose turn it is.
#[derive(Debug)]
pub(crate) struct Paced {
    body: ServiceBody,
    /// The rest of a larger frame.
    rest: Bytes,
    visit: Arc<Visit>,
}

impl Paced {
    fn new(body: ServiceBody, visit: Arc<Visit>) -> Self {
        visit.restart_clock();
        Self {
            body,
            rest: Bytes::new(),
            visit,
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let len = self.rest.len().min(PIECE_LEN_MAX);
        Frame::data(self.rest.split_to(len))
    }
}

impl Drop for Paced {
    /// Notes that the answer is over: what follows is the peer's to say.
    fn drop(&mut self) {
        self.visit.restart_clock();
        self.visit.note_answer();
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        self.visit.restart_clock();
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let poll = || Pin::new(&mut self.body).poll_frame(cx);
        let Ok(polled) = panics::catch(WHAT, None, poll) else {
            return Poll::Ready(Some(Err("the body panicked".into())));
        };
        if polled.is_pending() {
            self.visit.stop_clock();
        }
        polled.map_ok(|frame| match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.piece()
            }
            Err(trailers) => trailers,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let more = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(more));
        }
        hint.set_lower(of_body.lower().saturating_add(more));
        hint
    }
}
