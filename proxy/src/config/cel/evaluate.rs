//! Evaluating a condition.

use std::cmp::Ordering;

use super::value::{NoValue, Value};
use super::{Condition, Expression, Function};
use crate::config::matcher::MatchInput;

impl Condition {
    /// Whether the condition is true. One that has no value, because something is missing, is not.
    pub fn holds(&self, input: &MatchInput<'_>) -> bool {
        self.0.value(input).and_then(|value| value.bool()) == Ok(true)
    }
}

impl Expression {
    fn value<'a>(&'a self, input: &MatchInput<'a>) -> Result<Value<'a>, NoValue> {
        let truth = |expression: &'a Expression| expression.value(input)?.bool();
        Ok(match self {
            Expression::Constant(constant) => constant.value(),
            Expression::Attribute(attribute) => attribute.value(input)?,
            Expression::Index(operand, key) => operand.value(input)?.index(&key.value(input)?)?,
            Expression::Has(operand, field) => {
                Value::Bool(operand.value(input)?.field(field).is_some())
            }
            Expression::List(items) => {
                let items = items.iter().map(|item| item.value(input));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            // One side that decides is enough, even if the other has no value.
            Expression::And(left, right) => Value::Bool(match (truth(left), truth(right)) {
                (Ok(false), _) | (_, Ok(false)) => false,
                (left, right) => left? && right?,
            }),
            Expression::Or(left, right) => Value::Bool(match (truth(left), truth(right)) {
                (Ok(true), _) | (_, Ok(true)) => true,
                (left, right) => left? || right?,
            }),
            Expression::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                if truth(condition)? { then.value(input)? } else { otherwise.value(input)? }
            }
            Expression::Matches(text, pattern) => {
                Value::Bool(pattern.is_match(&text.value(input)?.text()?))
            }
            Expression::Call(function, arguments) => {
                let values = arguments.iter().map(|argument| argument.value(input));
                function.call(&values.collect::<Result<Vec<_>, _>>()?)?
            }
        })
    }
}

impl Function {
    /// How many arguments it takes.
    pub(super) fn arguments(self) -> usize {
        match self {
            Function::Not | Function::Negate | Function::Size => 1,
            _ => 2,
        }
    }

    fn call<'a>(self, arguments: &[Value<'a>]) -> Result<Value<'a>, NoValue> {
        let (first, second) = match arguments {
            [only] => (only, only),
            [first, second] => (first, second),
            _ => return Err(NoValue),
        };
        let ordered = |accepted: &[Ordering]| {
            first.compare(second).map(|order| Value::Bool(accepted.contains(&order)))
        };
        match self {
            Function::Not => Ok(Value::Bool(!first.bool()?)),
            Function::Equal => Ok(Value::Bool(first.equals(second))),
            Function::NotEqual => Ok(Value::Bool(!first.equals(second))),
            Function::Less => ordered(&[Ordering::Less]),
            Function::LessOrEqual => ordered(&[Ordering::Less, Ordering::Equal]),
            Function::Greater => ordered(&[Ordering::Greater]),
            Function::GreaterOrEqual => ordered(&[Ordering::Greater, Ordering::Equal]),
            Function::In => first.is_in(second).map(Value::Bool),
            Function::StartsWith => Ok(Value::Bool(first.text()?.starts_with(&*second.text()?))),
            Function::EndsWith => Ok(Value::Bool(first.text()?.ends_with(&*second.text()?))),
            Function::Contains => Ok(Value::Bool(first.text()?.contains(&*second.text()?))),
            Function::Size => first.size().map(Value::Int),
            Function::Negate => match first {
                Value::Int(number) => number.checked_neg().map(Value::Int).ok_or(NoValue),
                Value::Double(number) => Ok(Value::Double(-number)),
                _ => Err(NoValue),
            },
            arithmetic => arithmetic.calculate(first, second),
        }
    }

    /// Arithmetic knows no overflow and no mixture of kinds.
    fn calculate<'a>(self, first: &Value<'_>, second: &Value<'_>) -> Result<Value<'a>, NoValue> {
        match (first, second) {
            (Value::Int(a), Value::Int(b)) => {
                let result = match self {
                    Function::Add => a.checked_add(*b),
                    Function::Subtract => a.checked_sub(*b),
                    Function::Multiply => a.checked_mul(*b),
                    Function::Divide => a.checked_div(*b),
                    _ => a.checked_rem(*b),
                };
                result.map(Value::Int).ok_or(NoValue)
            }
            (Value::Uint(a), Value::Uint(b)) => {
                let result = match self {
                    Function::Add => a.checked_add(*b),
                    Function::Subtract => a.checked_sub(*b),
                    Function::Multiply => a.checked_mul(*b),
                    Function::Divide => a.checked_div(*b),
                    _ => a.checked_rem(*b),
                };
                result.map(Value::Uint).ok_or(NoValue)
            }
            (Value::Double(a), Value::Double(b)) => Ok(Value::Double(match self {
                Function::Add => a + b,
                Function::Subtract => a - b,
                Function::Multiply => a * b,
                Function::Divide => a / b,
                _ => return Err(NoValue),
            })),
            _ => Err(NoValue),
        }
    }
}
