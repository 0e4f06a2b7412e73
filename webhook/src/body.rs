//! Bodies: read whole, within a bound.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody as _};

/// The API server's own bound of a request.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;
/// How much of a body that is too large is read all the same: a client that still writes when the connection is closed
/// would not see the answer.
const DRAIN_LIMIT: usize = 32 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    EndedEarly,
}

pub(crate) async fn whole(mut body: Body) -> Result<Vec<u8>, BodyError> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| BodyError::EndedEarly)?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= LIMIT {
            bytes.extend_from_slice(data);
        }
        if length > DRAIN_LIMIT {
            break;
        }
    }
    if length > LIMIT { Err(BodyError::TooLarge) } else { Ok(bytes) }
}
