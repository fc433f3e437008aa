//! Our own answers, in the app's place.

use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::answer::OwnAnswer;
use crate::grpc::{self, Code};
use crate::http2::piece::Piece;
use crate::method::Method;
use crate::reason::Reason;
use crate::request::Request;

/// Gives this answer, and tells the status that the client sees. An error means that the client is gone.
pub(crate) fn send(
    respond: &mut SendResponse<Piece>,
    asked: Asked,
    answer: &OwnAnswer,
) -> Result<(StatusCode, Option<Code>), h2::Error> {
    let OwnAnswer { reason, status, sentence, headers, body } = answer;
    if asked.grpc {
        // Trailers only, as Envoy and Linkerd have it: to a gRPC client, another status is a server that is none.
        let code = Code::of_status(reason.status());
        let message = format!("outrigger: {sentence} ({})", reason.as_str());
        let head = head(StatusCode::OK, *reason)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(grpc::STATUS, u16::from(code.number()))
            .header("grpc-message", message)
            .body(());
        respond.send_response(head.expect("constants are a head"), true)?;
        return Ok((StatusCode::OK, Some(code)));
    }
    let mut head = head(*status, *reason).header(CONTENT_LENGTH, body.len());
    for (name, value) in headers {
        head = head.header(&**name, value);
    }
    let head = head.body(());
    let mut stream = respond.send_response(head.expect("constants are a head"), asked.head)?;
    if !asked.head {
        stream.send_data(body.clone().into(), true)?;
    }
    Ok((*status, None))
}

/// What an answer of ours depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// A call by gRPC.
    pub(crate) grpc: bool,
    /// By HEAD, whose answer has no body.
    pub(crate) head: bool,
}

impl Asked {
    pub(crate) fn by(request: &Request<'_>) -> Self {
        Self { grpc: request.is_grpc(), head: request.method == Method::Head }
    }
}

fn head(status: StatusCode, reason: Reason) -> http::response::Builder {
    Response::builder().status(status).header(Reason::HEADER, reason.as_str())
}
