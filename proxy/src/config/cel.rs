//! Conditions in the Common Expression Language, as Envoy gets them: parsed already (`google.api.expr.v1alpha1.Expr`).
//!
//! As in Envoy, there are no macros that loop and no concatenation, so that a condition costs time linear in its length.

mod attributes;
mod evaluate;
mod translate;
mod value;

use regex::Regex;

pub use attributes::Attribute;
use value::Constant;

/// A condition, of which every name and function is known to exist.
#[derive(Clone, Debug)]
pub struct Condition(Expression);

#[derive(Clone, Debug)]
enum Expression {
    Constant(Constant),
    /// `request.path` and the like.
    Attribute(Attribute),
    /// `operand.field`, or `operand["field"]`
    Index(Box<Expression>, Box<Expression>),
    /// `has(operand.field)`
    Has(Box<Expression>, Box<str>),
    List(Box<[Expression]>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// `_?_:_`
    If(Box<[Expression; 3]>),
    /// `matches` with a pattern that is known.
    Matches(Box<Expression>, Regex),
    Call(Function, Box<[Expression]>),
}

/// The functions besides those that need not evaluate all of their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Not,
    Negate,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    In,
    StartsWith,
    EndsWith,
    Contains,
    Size,
}

#[cfg(test)]
mod tests;
