//! Translating a parsed expression. What would only fail later, on every request, is refused here: a policy that denies
//! would otherwise never do so.

use prost::Message;
use proto::cel::expr::{CheckedExpr, ParsedExpr};
use proto::google::api::expr::v1alpha1 as pb;
use proto::google::api::expr::v1alpha1::constant::ConstantKind;
use proto::google::api::expr::v1alpha1::expr::ExprKind;

use proto::xds::r#type::v3::CelExpression;
use proto::xds::r#type::v3::cel_expression::ExprSpecifier;

use super::attributes::Attribute;
use super::value::Constant;
use super::{Condition, Expression, Function};
use crate::config::matcher::re2;
use crate::config::value::required;
use crate::config::{At, ConfigError};
use crate::refuse_set;

/// How deep expressions may be nested.
const MAX_DEPTH: usize = 64;

/// The functions by the names that the parser gives them.
const FUNCTIONS: &[(&str, Function)] = &[
    ("!_", Function::Not),
    ("-_", Function::Negate),
    ("_==_", Function::Equal),
    ("_!=_", Function::NotEqual),
    ("_<_", Function::Less),
    ("_<=_", Function::LessOrEqual),
    ("_>_", Function::Greater),
    ("_>=_", Function::GreaterOrEqual),
    ("_+_", Function::Add),
    ("_-_", Function::Subtract),
    ("_*_", Function::Multiply),
    ("_/_", Function::Divide),
    ("_%_", Function::Modulo),
    ("@in", Function::In),
    ("_in_", Function::In),
    ("in", Function::In),
    ("startsWith", Function::StartsWith),
    ("endsWith", Function::EndsWith),
    ("contains", Function::Contains),
    ("size", Function::Size),
];

impl Condition {
    /// The condition of a matcher tree's `CelMatcher`.
    pub fn from_xds(message: &CelExpression, at: &At<'_>) -> Result<Condition, ConfigError> {
        refuse_set!(at, message, [cel_expr_string]);
        let newer = |bytes: Vec<u8>, field: &str| {
            // Both packages have the same messages.
            pb::Expr::decode(bytes.as_slice()).map_err(|error| at.field(field).error(error))
        };
        let (field, expression) = match (&message.cel_expr_parsed, &message.cel_expr_checked) {
            (Some(ParsedExpr { expr: Some(expr), .. }), _) => {
                ("cel_expr_parsed", Some(newer(expr.encode_to_vec(), "cel_expr_parsed")?))
            }
            (_, Some(CheckedExpr { expr: Some(expr), .. })) => {
                ("cel_expr_checked", Some(newer(expr.encode_to_vec(), "cel_expr_checked")?))
            }
            _ => match &message.expr_specifier {
                Some(ExprSpecifier::ParsedExpr(parsed)) => ("parsed_expr", parsed.expr.clone()),
                Some(ExprSpecifier::CheckedExpr(checked)) => ("checked_expr", checked.expr.clone()),
                None => ("cel_expr_parsed", None),
            },
        };
        let at = at.field(field);
        let at = at.field("expr");
        Condition::from_proto(required(&expression, &at)?, &at)
    }

    /// The condition that a parsed expression states.
    pub fn from_proto(message: &pb::Expr, at: &At<'_>) -> Result<Condition, ConfigError> {
        Expression::from_proto(message, 0, at).map(Condition)
    }
}

impl Expression {
    fn from_proto(
        message: &pb::Expr,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Expression, ConfigError> {
        if depth == MAX_DEPTH {
            return Err(at.error(format_args!("is nested deeper than {MAX_DEPTH} levels")));
        }
        match required(&message.expr_kind, at)? {
            ExprKind::ConstExpr(constant) => {
                constant_from_proto(constant, &at.field("const_expr")).map(Expression::Constant)
            }
            ExprKind::IdentExpr(name) => attribute(&name.name, &at.field("ident_expr")),
            ExprKind::SelectExpr(select) => {
                Expression::select(select, depth, &at.field("select_expr"))
            }
            ExprKind::CallExpr(call) => Expression::call(call, depth, &at.field("call_expr")),
            ExprKind::ListExpr(list) => {
                let at = at.field("list_expr");
                refuse_set!(at, list, [optional_indices]);
                let items = list.elements.iter().enumerate().map(|(index, item)| {
                    Expression::from_proto(item, depth + 1, &at.index("elements", index))
                });
                Ok(Expression::List(items.collect::<Result<_, _>>()?))
            }
            ExprKind::StructExpr(_) => Err(at.field("struct_expr").unsupported()),
            ExprKind::ComprehensionExpr(_) => {
                Err(at.field("comprehension_expr").error("macros that loop are not allowed"))
            }
        }
    }

    fn select(
        message: &pb::expr::Select,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Expression, ConfigError> {
        let at_operand = at.field("operand");
        let operand = required(&message.operand, &at_operand)?;
        if let (Some(ExprKind::IdentExpr(root)), false) = (&operand.expr_kind, message.test_only)
            && root.name != "metadata"
        {
            return attribute(&format!("{}.{}", root.name, message.field), at);
        }
        let operand = Box::new(Expression::from_proto(operand, depth + 1, &at_operand)?);
        let field = message.field.as_str().into();
        Ok(match message.test_only {
            true => Expression::Has(operand, field),
            false => {
                let key = Expression::Constant(Constant::Text(field));
                Expression::Index(operand, Box::new(key))
            }
        })
    }

    fn call(
        message: &pb::expr::Call,
        depth: usize,
        at: &At<'_>,
    ) -> Result<Expression, ConfigError> {
        let target = message
            .target
            .as_deref()
            .map(|target| Expression::from_proto(target, depth + 1, &at.field("target")));
        let arguments = message.args.iter().enumerate().map(|(index, argument)| {
            Expression::from_proto(argument, depth + 1, &at.index("args", index))
        });
        let arguments = target.into_iter().chain(arguments).collect::<Result<Vec<_>, _>>()?;
        let wrong = || {
            let rule = format!("{:?} is no function with these arguments", message.function);
            at.field("function").error(rule)
        };
        let pair = |arguments: Vec<Expression>| <[Expression; 2]>::try_from(arguments).ok();
        match message.function.as_str() {
            "_&&_" => pair(arguments)
                .map(|[left, right]| Expression::And(Box::new(left), Box::new(right)))
                .ok_or_else(wrong),
            "_||_" => pair(arguments)
                .map(|[left, right]| Expression::Or(Box::new(left), Box::new(right)))
                .ok_or_else(wrong),
            "_[_]" => pair(arguments)
                .map(|[operand, key]| Expression::Index(Box::new(operand), Box::new(key)))
                .ok_or_else(wrong),
            "_?_:_" => <[Expression; 3]>::try_from(arguments)
                .map(|parts| Expression::If(Box::new(parts)))
                .map_err(|_| wrong()),
            "matches" => match pair(arguments) {
                Some([text, Expression::Constant(Constant::Text(pattern))]) => {
                    let pattern = re2::search(&pattern).map_err(|error| at.error(error))?;
                    Ok(Expression::Matches(Box::new(text), pattern))
                }
                Some(_) => Err(at.error("the pattern of matches must be a constant")),
                None => Err(wrong()),
            },
            name => {
                let known = FUNCTIONS.iter().find(|(known, _)| *known == name);
                let (_, function) = known.ok_or_else(wrong)?;
                if arguments.len() != function.arguments() {
                    return Err(wrong());
                }
                Ok(Expression::Call(*function, arguments.into()))
            }
        }
    }
}

fn attribute(name: &str, at: &At<'_>) -> Result<Expression, ConfigError> {
    Attribute::named(name).map(Expression::Attribute).ok_or_else(|| {
        let rule = "is no attribute that is known when a request is decided on";
        at.error(format_args!("{name:?} {rule}"))
    })
}

fn constant_from_proto(message: &pb::Constant, at: &At<'_>) -> Result<Constant, ConfigError> {
    Ok(match required(&message.constant_kind, at)? {
        ConstantKind::NullValue(_) => Constant::Null,
        ConstantKind::BoolValue(value) => Constant::Bool(*value),
        ConstantKind::Int64Value(value) => Constant::Int(*value),
        ConstantKind::Uint64Value(value) => Constant::Uint(*value),
        ConstantKind::DoubleValue(value) => Constant::Double(*value),
        ConstantKind::StringValue(value) => Constant::Text(value.as_str().into()),
        ConstantKind::BytesValue(_)
        | ConstantKind::DurationValue(_)
        | ConstantKind::TimestampValue(_) => return Err(at.unsupported()),
    })
}
