//! The steps of a case.

use std::mem;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::bootstrap::{fill_text, merge};
use super::case::{Frames, Raw, Request, Step, TlsClient, Wait};
use super::client;
use super::frames;
use super::http1::Wire;
use super::program::admin;
use super::run::{PATIENCE, POLL, Run};
use super::tls;

impl Run<'_> {
    /// Takes all steps and notes what each has shown.
    pub async fn steps(&mut self) -> Result<Value, String> {
        let mut seen = Vec::new();
        for (at, step) in self.case.steps.iter().enumerate() {
            let noted =
                self.step(at, step).await.map_err(|error| format!("steps[{at}]: {error}"))?;
            seen.push(noted);
        }
        for (at, task) in mem::take(&mut self.background) {
            seen[at] = task.await.map_err(|e| e.to_string())?;
        }
        Ok(Value::Array(seen))
    }

    async fn step(&mut self, at: usize, step: &Step) -> Result<Value, String> {
        match step {
            Step::Get(path) => {
                let request = Request { path: path.clone(), ..Request::default() };
                return self.request(at, request).await;
            }
            Step::Request(request) => return self.request(at, request.clone()).await,
            Step::Raw(raw) => return self.raw(at, raw.clone()).await,
            Step::Frames(frames) => return self.frames(frames).await,
            Step::Admin(request) => {
                let answer = admin(self.port("admin")?, request).await?;
                return Ok(json!({"status": answer.status, "body": answer.body}));
            }
            Step::Close(name) => {
                self.connections
                    .remove(name)
                    .ok_or_else(|| format!("there is no connection {name}"))?;
            }
            Step::Release(name) => self.stage.release(name),
            Step::Write(name, text) => self.write(name, text)?,
            Step::Wait(condition) => return self.wait(condition).await,
            Step::Push(patch) => {
                merge(&mut self.config, patch);
                self.serve()?;
            }
        }
        Ok(Value::Null)
    }

    async fn request(&mut self, at: usize, mut request: Request) -> Result<Value, String> {
        let texts = [&mut request.path, &mut request.host].into_iter();
        for text in texts.chain(&mut request.body).chain(&mut request.chunks) {
            *text = fill_text(text, &self.names);
        }
        for (_, value) in &mut request.headers.0 {
            *value = fill_text(value, &self.names);
        }
        let (source, name) = (request.source.as_deref(), request.connection.as_deref());
        let tls = request.tls.as_ref();
        let wire = match self.connection(name, &request.to, source, tls).await? {
            Ok(wire) => wire,
            Err(how) => return Ok(json!({"no_answer": how})),
        };
        if request.background {
            self.background
                .push((at, tokio::spawn(async move { client::exchange(wire, &request).await.0 })));
            return Ok(Value::Null);
        }
        let (noted, wire) = client::exchange(wire, &request).await;
        self.keep(request.connection, wire);
        Ok(noted)
    }

    async fn raw(&mut self, at: usize, mut raw: Raw) -> Result<Value, String> {
        raw.send = fill_text(&raw.send, &self.names);
        let (source, name) = (raw.source.as_deref(), raw.connection.as_deref());
        let tls = raw.tls.as_ref();
        let mut wire = match self.connection(name, &raw.to, source, tls).await? {
            Ok(wire) => wire,
            Err(how) => return Ok(json!({"no_answer": how})),
        };
        if raw.background {
            self.background
                .push((at, tokio::spawn(async move { client::raw(&mut wire, &raw).await })));
            return Ok(Value::Null);
        }
        let noted = client::raw(&mut wire, &raw).await;
        self.keep(raw.connection, Some(wire));
        Ok(noted)
    }

    async fn frames(&mut self, frames: &Frames) -> Result<Value, String> {
        match self.connection(None, "listener", None, None).await? {
            Ok(wire) => frames::exchange(wire, &frames.send).await,
            Err(how) => Ok(json!({"no_answer": how})),
        }
    }

    async fn wait(&self, condition: &Wait) -> Result<Value, String> {
        match condition {
            Wait::Received(upstream, count) => {
                let received = self.stage.wait_received(upstream, *count);
                match tokio::time::timeout(PATIENCE, received).await {
                    Ok(()) => Ok(Value::Null),
                    Err(_) => Ok(json!({"not_in_time": format!("{upstream} receives {count}")})),
                }
            }
            Wait::Stat(name, value) => {
                let begin = Instant::now();
                while self.stats(std::slice::from_ref(name)).await?[name] != *value {
                    if begin.elapsed() > PATIENCE {
                        return Ok(json!({"not_in_time": format!("{name} is {value}")}));
                    }
                    tokio::time::sleep(POLL).await;
                }
                Ok(Value::Null)
            }
            Wait::Answer(kind) => {
                let ads = self.ads.as_ref().ok_or("this case has no control plane")?;
                ads.answer(kind).await
            }
        }
    }

    /// A connection that was kept, or a new one; else how it was refused.
    async fn connection(
        &mut self,
        name: Option<&str>,
        to: &str,
        source: Option<&str>,
        tls: Option<&TlsClient>,
    ) -> Result<Result<Wire, &'static str>, String> {
        if let Some(wire) = name.and_then(|name| self.connections.remove(name)) {
            return Ok(Ok(wire));
        }
        let Some(wire) = client::connect(self.port(to)?, source).await? else {
            return Ok(Err("refused"));
        };
        let Some(client) = tls else { return Ok(Ok(wire)) };
        let connecting = tls::connect(wire.stream, client, &self.sessions);
        match timeout(PATIENCE, connecting).await {
            Ok(Ok(stream)) => Ok(Ok(Wire::new(stream))),
            Ok(Err(_)) => Ok(Err("refused in the handshake")),
            Err(_) => Ok(Err("in time")),
        }
    }

    fn keep(&mut self, name: Option<String>, wire: Option<Wire>) {
        self.connections.extend(name.zip(wire));
    }
}
