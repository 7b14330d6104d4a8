//! Faults: what a control plane may do wrong, on purpose.

use std::sync::Arc;
use std::time::Duration;

use proto::google::protobuf::Any;

use crate::ads::message::Push;
use crate::resource::Resource;

/// The name of the resource that [`FaultKind::UnknownResource`] and [`FaultKind::UnknownType`] add to a push.
pub const UNKNOWN_NAME: &str = "nobody-asked-for-this";

/// The type URL of the resource that [`FaultKind::UnknownType`] adds to a push.
pub const UNKNOWN_TYPE: &str = "type.googleapis.com/control_plane_mock.Unknown";

/// Bytes that are no protobuf message: a field whose length runs past the end.
const GARBAGE: [u8; 2] = [0x0a, 0xff];

/// A fault with what it applies to. Serialised as the HTTP API takes it:
/// `{"kind": "delay", "millis": 500, "type": "cds", "node": "a", "times": 1}`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Type URL or short name (`cds`) of the pushes concerned; all when absent.
    #[serde(rename = "type", default)]
    pub type_url: Option<String>,
    /// `node.id` of the clients concerned; all when absent.
    #[serde(default)]
    pub node: Option<String>,
    /// How often it happens before it is gone; until it is disarmed when absent.
    #[serde(default)]
    pub times: Option<u32>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultKind {
    /// A push leaves this much later. Other types do not wait for it.
    Delay {
        /// How much later, in milliseconds.
        millis: u64,
    },
    /// Nothing is pushed. What was held back is pushed when the fault is disarmed; `times` does not apply.
    Withhold,
    /// In place of a push the stream ends with `UNAVAILABLE`.
    DropStream,
    /// A stream's first request of a type is answered by ending it with `UNAVAILABLE`.
    RefuseStream,
    /// The first resource of a push holds bytes that are no protobuf.
    Malformed,
    /// A push holds one more resource of its type, an empty message named [`UNKNOWN_NAME`].
    UnknownResource,
    /// A push holds one more resource of a type that nobody knows, [`UNKNOWN_TYPE`].
    UnknownType,
    /// A push carries the nonce of the push of that type before it.
    RepeatNonce,
}

impl FaultKind {
    fn name(self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Withhold => "withhold",
            Self::DropStream => "drop_stream",
            Self::RefuseStream => "refuse_stream",
            Self::Malformed => "malformed",
            Self::UnknownResource => "unknown_resource",
            Self::UnknownType => "unknown_type",
            Self::RepeatNonce => "repeat_nonce",
        }
    }
}

impl From<FaultKind> for Fault {
    /// The fault for every type and node, until it is disarmed.
    fn from(kind: FaultKind) -> Self {
        Self { kind, type_url: None, node: None, times: None }
    }
}

impl Fault {
    /// Limits the fault to one type, by type URL.
    pub fn on_type(mut self, type_url: &str) -> Self {
        self.type_url = Some(type_url.to_owned());
        self
    }

    /// Limits the fault to the clients with this `node.id`.
    pub fn on_node(mut self, node: &str) -> Self {
        self.node = Some(node.to_owned());
        self
    }

    /// Limits how often the fault happens.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn concerns(&self, node: &str, type_url: &str) -> bool {
        let matches =
            |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        self.times != Some(0) && matches(&self.node, node) && matches(&self.type_url, type_url)
    }
}

/// Names an armed fault, to disarm it.
pub type FaultId = u64;

/// The armed faults.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    last_id: FaultId,
    armed: Vec<(FaultId, Fault)>,
}

/// What the faults make of a push beyond altering its content.
#[derive(Debug, Default)]
pub(crate) struct Tampering {
    pub(crate) delay: Option<Duration>,
    pub(crate) drop_stream: bool,
    pub(crate) applied: Vec<&'static str>,
}

impl Faults {
    pub(crate) fn arm(&mut self, fault: Fault) -> FaultId {
        self.last_id += 1;
        self.armed.push((self.last_id, fault));
        self.last_id
    }

    /// Whether there was such a fault.
    pub(crate) fn disarm(&mut self, id: FaultId) -> bool {
        let before = self.armed.len();
        self.armed.retain(|(armed, _)| *armed != id);
        self.armed.len() != before
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(crate) fn list(&self) -> &[(FaultId, Fault)] {
        &self.armed
    }

    pub(crate) fn withholds(&self, node: &str, type_url: &str) -> bool {
        let mut armed = self.armed.iter();
        armed.any(|(_, fault)| fault.kind == FaultKind::Withhold && fault.concerns(node, type_url))
    }

    /// Whether a stream's first request of a type is refused.
    pub(crate) fn refuses(&mut self, node: &str, type_url: &str) -> bool {
        let refusing = self.take(node, type_url, |kind| kind == FaultKind::RefuseStream);
        !refusing.is_empty()
    }

    /// Alters a push that is about to leave.
    pub(crate) fn tamper(
        &mut self,
        node: &str,
        push: &mut Push,
        previous_nonce: &str,
    ) -> Tampering {
        let on_push = |kind| !matches!(kind, FaultKind::Withhold | FaultKind::RefuseStream);
        let mut tampering = Tampering::default();
        for kind in self.take(node, &push.type_url, on_push) {
            tampering.applied.push(kind.name());
            match kind {
                FaultKind::Delay { millis } => {
                    let delay = tampering.delay.unwrap_or_default();
                    tampering.delay = Some(delay + Duration::from_millis(millis));
                }
                FaultKind::DropStream => tampering.drop_stream = true,
                FaultKind::Malformed => corrupt_first(push),
                FaultKind::UnknownResource => add_unknown(push, push.type_url.clone()),
                FaultKind::UnknownType => add_unknown(push, UNKNOWN_TYPE.to_owned()),
                FaultKind::RepeatNonce if !previous_nonce.is_empty() => {
                    previous_nonce.clone_into(&mut push.nonce);
                }
                FaultKind::RepeatNonce | FaultKind::Withhold | FaultKind::RefuseStream => {}
            }
        }
        tampering
    }

    /// The faults of the wanted kinds that happen now; those that happened for the last time are gone.
    fn take(
        &mut self,
        node: &str,
        type_url: &str,
        wanted: impl Fn(FaultKind) -> bool,
    ) -> Vec<FaultKind> {
        let mut taken = Vec::new();
        for (_, fault) in &mut self.armed {
            if wanted(fault.kind) && fault.concerns(node, type_url) {
                taken.push(fault.kind);
                fault.times = fault.times.map(|times| times - 1);
            }
        }
        self.armed.retain(|(_, fault)| fault.times != Some(0));
        taken
    }
}

fn corrupt_first(push: &mut Push) {
    if let Some(first) = push.resources.first_mut() {
        let any = Any { type_url: first.type_url().to_owned(), value: GARBAGE.to_vec() };
        *first = Arc::new(Resource::named(first.name(), any));
    }
}

fn add_unknown(push: &mut Push, type_url: String) {
    let any = Any { type_url, value: Vec::new() };
    push.resources.push(Arc::new(Resource::named(UNKNOWN_NAME, any)));
}
