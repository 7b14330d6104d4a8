//! Changing the proxy's own answers as `local_reply_config` says.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::LocalReply;
use crate::config::hcm::{BodyFormat, LocalReplies};
use crate::http::stream::Stream;
use crate::route::header_mutation;
use crate::telemetry::log_format::FormatContext;

impl LocalReply {
    /// The answer as the configuration wants it. What it asks for stands in the stream's facts already, apart from the status.
    pub fn rewrite(&mut self, replies: &LocalReplies, stream: &Stream) {
        let mut headers = HeaderMap::from_iter(self.headers.drain(..));
        let (given_type, given_body) = (headers.get(CONTENT_TYPE).cloned(), self.body.clone());
        self.note_status(stream);
        let mapper = replies.mappers.iter().find(|mapper| {
            self.with_context(&headers, stream, |context| mapper.filter.passes(context))
        });
        let mut format = replies.format.as_ref();
        if let Some(mapper) = mapper {
            if let Some(body) = &mapper.body {
                self.body = bytes::Bytes::copy_from_slice(body.as_bytes());
            }
            let before = headers.clone();
            self.with_context(&before, stream, |context| {
                header_mutation::apply(&mapper.headers, &mut headers, context);
            });
            if let Some(status) = mapper.status {
                self.status = status;
                self.note_status(stream);
            }
            format = mapper.format.as_ref().or(format);
        }
        if let Some(BodyFormat { format, .. }) = format {
            let mut body = Vec::new();
            self.with_context(&headers, stream, |context| format.write(context, &mut body));
            self.body = body.into();
        }
        let retyped = headers.get(CONTENT_TYPE) != given_type.as_ref();
        if let Some(BodyFormat { content_type, .. }) = format
            && !retyped
            && (self.body != given_body || given_type.is_none())
        {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        if self.body.is_empty() {
            headers.remove(CONTENT_TYPE);
        }
        self.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    fn note_status(&self, stream: &Stream) {
        stream.shared.info.borrow_mut().response_code = self.status.as_u16();
    }

    fn with_context<R>(
        &self,
        headers: &HeaderMap,
        stream: &Stream,
        f: impl FnOnce(&FormatContext<'_>) -> R,
    ) -> R {
        let body = String::from_utf8_lossy(&self.body);
        stream.with_format(|context| {
            f(&FormatContext { response: Some(headers), local_reply_body: Some(&body), ..*context })
        })
    }
}
