//! SQL92 filters: which messages a condition over their properties lets through.
//!
//! The language and what it makes of properties that are missing or no numbers are RocketMQ's, so
//! that a consumer gets the same messages from either broker. Two of its habits surprise:
//! `NOT a = 1` is `(NOT a) = 1`, and text is compared by `<` only if it is a number.

mod parse;
#[cfg(test)]
mod tests;
mod token;

use std::{borrow::Cow, cmp::Ordering};

/// A condition that was read.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    text: String,
    root: Expression,
}

/// Two are the same if they are written the same.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

#[derive(Clone, Debug)]
enum Expression {
    Constant(Option<Value<'static>>),
    Property(String),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    /// A property as a condition: true only if it is, and text never is.
    Truth(Box<Expression>),
    And(Box<(Expression, Expression)>),
    Or(Box<(Expression, Expression)>),
    Equal(Box<(Expression, Expression)>),
    Compare(Box<(Expression, Expression)>, Comparison),
    IsNull(Box<Expression>),
    In(String, Vec<String>),
    Like(String, Part, String),
}

/// What has to stand in a relation of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Where in a text another one has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    Start,
    End,
}

/// What an expression is for one message; `None` stands for NULL.
#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Integer(i64),
    Real(f64),
    Truth(bool),
}

/// The message has values that cannot be compared: it is not let through.
#[derive(Clone, Copy, Debug)]
struct Incomparable;

type Evaluated<'a> = Result<Option<Value<'a>>, Incomparable>;

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    ///
    /// Where it ends to make sense, and what is wanted there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned(), root: parse::parse(text)? })
    }

    /// Whether a message goes through whose properties are what `property` says.
    pub(crate) fn matches<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        matches!(self.root.evaluate(property), Ok(Some(Value::Truth(true))))
    }
}

impl Expression {
    fn evaluate<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> Evaluated<'a> {
        let text = |name: &str| property(name).map(|text| Value::Text(Cow::Borrowed(text)));
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Property(name) => text(name),
            Self::Not(inner) => match inner.evaluate(property)? {
                Some(Value::Truth(truth)) => Some(Value::Truth(!truth)),
                _ => None,
            },
            Self::Negative(inner) => match inner.evaluate(property)? {
                Some(Value::Integer(number)) => Some(Value::Integer(number.wrapping_neg())),
                Some(Value::Real(number)) => Some(Value::Real(-number)),
                _ => None,
            },
            Self::Truth(inner) => inner
                .evaluate(property)?
                .map(|value| Value::Truth(matches!(value, Value::Truth(true)))),
            Self::And(pair) => both(pair, property, false)?,
            Self::Or(pair) => both(pair, property, true)?,
            Self::Equal(pair) => match (pair.0.evaluate(property)?, pair.1.evaluate(property)?) {
                (None, None) => Some(Value::Truth(true)),
                (None, Some(_)) => None,
                (Some(_), None) => Some(Value::Truth(false)),
                (Some(left), Some(right)) => {
                    Some(Value::Truth(order(&left, &right)? == Ordering::Equal))
                }
            },
            Self::Compare(pair, comparison) => {
                let (left, right) = (pair.0.evaluate(property)?, pair.1.evaluate(property)?);
                let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
                Some(Value::Truth(comparison.holds(numbers_order(&left, &right)?)))
            }
            Self::IsNull(inner) => Some(Value::Truth(inner.evaluate(property)?.is_none())),
            Self::In(name, all) => {
                property(name).map(|text| Value::Truth(all.iter().any(|element| element == text)))
            }
            Self::Like(name, part, searched) => {
                Some(Value::Truth(property(name).is_some_and(|text| match part {
                    Part::Any => text.contains(searched),
                    Part::Start => text.starts_with(searched),
                    Part::End => text.ends_with(searched),
                })))
            }
        })
    }

    /// Whether it is a condition by itself.
    fn is_condition(&self) -> bool {
        match self {
            Self::Constant(value) => matches!(value, None | Some(Value::Truth(_))),
            Self::Property(_) | Self::Negative(_) => false,
            _ => true,
        }
    }
}

/// `decides` is the truth that makes the other side not matter.
fn both<'a>(
    pair: &'a (Expression, Expression),
    property: &dyn Fn(&str) -> Option<&'a str>,
    decides: bool,
) -> Evaluated<'a> {
    let decided = Some(Value::Truth(decides));
    let left = pair.0.evaluate(property)?;
    if left == decided {
        return Ok(left);
    }
    let right = pair.1.evaluate(property)?;
    if right == decided {
        return Ok(right);
    }
    Ok(left.and(right))
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// Like [`order`]; two texts are compared as the numbers that they have to be.
fn numbers_order(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, Incomparable> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(real(left)?.total_cmp(&real(right)?)),
        _ => order(left, right),
    }
}

/// How two values compare; text becomes what the other one is. What never compares is less.
fn order(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, Incomparable> {
    Ok(match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
        (Value::Truth(left), Value::Truth(right)) => left.cmp(right),
        (Value::Real(left), Value::Real(right)) => left.total_cmp(right),
        (Value::Integer(left), Value::Real(right)) => (*left as f64).total_cmp(right),
        (Value::Real(left), Value::Integer(right)) => left.total_cmp(&(*right as f64)),
        (Value::Text(left), Value::Integer(right)) => integer(left)?.cmp(right),
        (Value::Integer(left), Value::Text(right)) => left.cmp(&integer(right)?),
        (Value::Text(left), Value::Real(right)) => real(left)?.total_cmp(right),
        (Value::Real(left), Value::Text(right)) => left.total_cmp(&real(right)?),
        (Value::Text(left), Value::Truth(right)) => left.eq_ignore_ascii_case("true").cmp(right),
        (Value::Truth(_), Value::Text(_)) => return Err(Incomparable),
        (Value::Truth(_), _) | (_, Value::Truth(_)) => Ordering::Less,
    })
}

fn integer(text: &str) -> Result<i64, Incomparable> {
    text.parse().map_err(|_| Incomparable)
}

fn real(text: &str) -> Result<f64, Incomparable> {
    text.trim().parse().map_err(|_| Incomparable)
}
