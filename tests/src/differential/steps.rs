//! The steps of a case.

use std::mem;
use std::time::Instant;

use serde_json::{Value, json};

use super::bootstrap::{fill_text, merge};
use super::case::{Frames, Raw, Request, Step, Wait};
use super::client;
use super::frames;
use super::http1::Wire;
use super::program::admin;
use super::run::{PATIENCE, POLL, Run};

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
            Step::Wait(condition) => return self.wait(condition).await,
            Step::Push(patch) => {
                merge(&mut self.config, patch);
                self.serve()?;
            }
        }
        Ok(Value::Null)
    }

    async fn request(&mut self, at: usize, mut request: Request) -> Result<Value, String> {
        for text in [&mut request.path, &mut request.host] {
            *text = fill_text(text, &self.names);
        }
        for (_, value) in &mut request.headers.0 {
            *value = fill_text(value, &self.names);
        }
        let (source, name) = (request.source.as_deref(), request.connection.as_deref());
        let Some(wire) = self.connection(name, &request.to, source).await? else {
            return Ok(json!({"no_answer": "refused"}));
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
        let Some(mut wire) = self.connection(name, &raw.to, source).await? else {
            return Ok(json!({"no_answer": "refused"}));
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
        match self.connection(None, "listener", None).await? {
            Some(wire) => frames::exchange(wire, &frames.send).await,
            None => Ok(json!({"no_answer": "refused"})),
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

    async fn connection(
        &mut self,
        name: Option<&str>,
        to: &str,
        source: Option<&str>,
    ) -> Result<Option<Wire>, String> {
        match name.and_then(|name| self.connections.remove(name)) {
            Some(wire) => Ok(Some(wire)),
            None => client::connect(self.port(to)?, source).await,
        }
    }

    fn keep(&mut self, name: Option<String>, wire: Option<Wire>) {
        self.connections.extend(name.zip(wire));
    }
}
