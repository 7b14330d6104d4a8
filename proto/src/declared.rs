//! Descriptors of the messages that the crate of Envoy's types lacks, so that texts with them are read and printed as others.

use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

use crate::{istio, matchers};

/// The files that declare [`crate::TypedStruct`] in its two packages, and those of [`crate::matchers`] and [`crate::istio`].
pub(crate) fn files() -> [FileDescriptorProto; 4] {
    [
        typed_struct("xds.type.v3", "xds/type/v3"),
        typed_struct("udpa.type.v1", "udpa/type/v1"),
        matchers(),
        istio(),
    ]
}

fn typed_struct(package: &str, directory: &str) -> FileDescriptorProto {
    let message = message(
        "TypedStruct",
        vec![text("type_url", 1), of("value", 2, ".google.protobuf.Struct")],
        vec![],
    );
    let name = format!("{directory}/typed_struct.proto");
    file(name, package, &["google/protobuf/struct.proto"], vec![message])
}

fn matchers() -> FileDescriptorProto {
    const ON_MATCH: &str = ".xds.type.matcher.v3.Matcher.OnMatch";
    let range = message(
        "IPRangeMatcher",
        vec![
            repeated(of("ranges", 1, ".xds.core.v3.CidrRange")),
            of("on_match", 2, ON_MATCH),
            field("exclusive", 3, Type::Bool),
        ],
        vec![],
    );
    let domain = message(
        "DomainMatcher",
        vec![repeated(text("domains", 1)), of("on_match", 2, ON_MATCH)],
        vec![],
    );
    let ranges = ".xds.type.matcher.v3.IPMatcher.IPRangeMatcher";
    let domains = ".xds.type.matcher.v3.ServerNameMatcher.DomainMatcher";
    let messages = vec![
        message("IPMatcher", vec![repeated(of("range_matchers", 1, ranges))], vec![range]),
        message(
            "ServerNameMatcher",
            vec![repeated(of("domain_matchers", 1, domains))],
            vec![domain],
        ),
        message(
            "CelMatcher",
            vec![of("expr_match", 1, ".xds.type.v3.CelExpression"), text("description", 2)],
            vec![],
        ),
        message("HttpAttributesCelMatchInput", vec![], vec![]),
    ];
    let imports =
        ["xds/core/v3/cidr.proto", "xds/type/matcher/v3/matcher.proto", "xds/type/v3/cel.proto"];
    file("xds/type/matcher/v3/extensions.proto".into(), matchers::PACKAGE, &imports, messages)
}

fn istio() -> FileDescriptorProto {
    let protocols = ["HTTP10", "HTTP11", "HTTP2"].iter().zip(0..);
    let protocol = EnumDescriptorProto {
        name: Some("Protocol".into()),
        value: protocols
            .map(|(name, number)| EnumValueDescriptorProto {
                name: Some((*name).into()),
                number: Some(number),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let scope = format!(".{}.FilterConfig", istio::PACKAGE);
    let upstream_protocol = FieldDescriptorProto {
        type_name: Some(format!("{scope}.Protocol")),
        ..field("upstream_protocol", 1, Type::Enum)
    };
    let given = vec![upstream_protocol, repeated(text("alpn_override", 2))];
    let overrides = of("alpn_override", 1, &format!("{scope}.AlpnOverride"));
    let nested = vec![message("AlpnOverride", given, vec![])];
    let mut config = message("FilterConfig", vec![repeated(overrides)], nested);
    config.enum_type.push(protocol);
    file("istio/alpn.proto".into(), istio::PACKAGE, &[], vec![config])
}

fn file(
    name: String,
    package: &str,
    imports: &[&str],
    messages: Vec<DescriptorProto>,
) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name),
        package: Some(package.into()),
        dependency: imports.iter().map(|name| (*name).into()).collect(),
        message_type: messages,
        syntax: Some("proto3".into()),
        ..Default::default()
    }
}

fn message(
    name: &str,
    field: Vec<FieldDescriptorProto>,
    nested_type: Vec<DescriptorProto>,
) -> DescriptorProto {
    DescriptorProto { name: Some(name.into()), field, nested_type, ..Default::default() }
}

fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

fn text(name: &str, number: i32) -> FieldDescriptorProto {
    field(name, number, Type::String)
}

/// A field that holds a message.
fn of(name: &str, number: i32, message: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { type_name: Some(message.into()), ..field(name, number, Type::Message) }
}

fn repeated(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}
