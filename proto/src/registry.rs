//! Every message of Envoy's API by name, for reading files and printing dumps.

use prost::{DecodeError, Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::apart::Apart;
use crate::declared;
use crate::google::protobuf::Any;
use crate::mapping::{Document, FieldNames, Format, ParseError, Parsed, Printer};
use crate::untyped::Untyped;

/// What build.rs took from the crate of the types.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The descriptors of all messages, which the JSON mapping and validation work with.
///
/// It is made when a file is read or a dump is printed and dropped afterwards, as nothing on a request's path needs it: it holds
/// 10.8 MB while it lives (15.5 MB while it is made) and takes about 30 ms of an optimized build to make. All of it is returned to the
/// allocator on drop. A clone shares the same memory.
///
/// Methods with a message type `T` panic where `T` is no message of Envoy's API, such as one of the caller's own.
#[derive(Debug, Clone)]
pub struct Registry {
    pool: DescriptorPool,
}

impl Registry {
    /// Decodes the descriptors.
    pub fn load() -> Self {
        let mut pool = DescriptorPool::decode(DESCRIPTORS)
            .expect("build.rs copied a descriptor set that its compiler had linked");
        for file in declared::files() {
            pool.add_file_descriptor_proto(file)
                .expect("the types' crate lacks these messages and has what they are made of");
        }
        Registry { pool }
    }

    /// Reads a message from YAML; fields that it does not define are refused.
    pub fn from_yaml<T: Message + Name + Default>(&self, text: &str) -> Result<T, ParseError> {
        self.parse(Format::Yaml, text)?.strict()
    }

    /// Reads a message from JSON; fields that it does not define are refused.
    pub fn from_json<T: Message + Name + Default>(&self, text: &str) -> Result<T, ParseError> {
        self.parse(Format::Json, text)?.strict()
    }

    /// Reads a message from a text and lists the fields and enum values that it does not define, for the caller to refuse
    /// ([`Parsed::strict`]) or to report.
    pub fn parse<T: Message + Name + Default>(
        &self,
        format: Format,
        text: &str,
    ) -> Result<Parsed<T>, ParseError> {
        // Both forms follow one descriptor; what can fail is protobuf's limit of 100 messages inside each other.
        self.parse_untyped::<T>(format, text)?
            .try_map(|message| message.typed())
            .map_err(|error| ParseError::at(None, error.to_string()))
    }

    /// [`Registry::parse`] without making a `T` of the message.
    pub fn parse_untyped<T: Name>(
        &self,
        format: Format,
        text: &str,
    ) -> Result<Parsed<Untyped>, ParseError> {
        self.untyped::<T>(&Document::parse(format, text)?)
    }

    /// The message that a text tells, and what of the text the message does not define.
    pub fn untyped<T: Name>(&self, text: &Document) -> Result<Parsed<Untyped>, ParseError> {
        self.untyped_apart::<T>(text, None)
    }

    /// [`Registry::untyped`] with the messages of one list taken apart, if that is given.
    pub(crate) fn untyped_apart<T: Name>(
        &self,
        text: &Document,
        mut apart: Option<&mut Apart<'_>>,
    ) -> Result<Parsed<Untyped>, ParseError> {
        let parsed = text.decode(&self.pool, &self.descriptor::<T>(), apart.as_deref_mut())?;
        parsed.try_map(|message| {
            let mut message = Untyped(message);
            if let Some(apart) = apart {
                apart.take_from(&mut message);
            }
            Ok(message)
        })
    }

    /// The message as JSON with the proto file's field names, as Envoy's admin interface prints it.
    ///
    /// Fields with their default value are left out, secrets are redacted, and an `Any` of an unknown type is printed as
    /// `{"@type": …, "value": base64}`.
    pub fn to_json<T: Message + Name>(&self, message: &T) -> serde_json::Value {
        self.to_json_with(message, FieldNames::Proto)
    }

    /// [`Registry::to_json`] with a choice of field names.
    pub fn to_json_with<T: Message + Name>(
        &self,
        message: &T,
        names: FieldNames,
    ) -> serde_json::Value {
        match self.dynamic(message) {
            Ok(dynamic) => Printer::new(&self.pool, names).message(&dynamic, false),
            Err(error) => format!("this message cannot be printed: {error}").into(),
        }
    }

    /// The message in `any` as JSON with its `@type`. See [`Registry::to_json`].
    pub fn any_to_json(&self, any: &Any) -> serde_json::Value {
        self.to_json(any)
    }

    /// What a message of this full name consists of, for whoever walks the API.
    pub fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }

    /// Every message there is.
    pub fn messages(&self) -> impl Iterator<Item = MessageDescriptor> + '_ {
        self.pool.all_messages()
    }

    pub(crate) fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// The same message in a form that can be walked. It fails where the message is more than 100 levels deep, which no decoded one is.
    pub(crate) fn dynamic<T: Message + Name>(
        &self,
        message: &T,
    ) -> Result<DynamicMessage, DecodeError> {
        let mut dynamic = DynamicMessage::new(self.descriptor::<T>());
        dynamic.transcode_from(message)?;
        Ok(dynamic)
    }

    pub(crate) fn descriptor<T: Name>(&self) -> MessageDescriptor {
        let name = T::full_name();
        self.pool
            .get_message_by_name(&name)
            .unwrap_or_else(|| panic!("{name} is no message of Envoy's API"))
    }
}
