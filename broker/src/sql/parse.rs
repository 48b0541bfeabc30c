//! From the words of a condition to what is evaluated.

use super::{
    Comparison, Expression, Part, Value, order,
    token::{Token, tokens},
};

/// No condition is longer, in bytes.
const LENGTH_MOST: usize = 8 << 10;
/// So deep may parentheses and signs be nested.
const DEPTH_MOST: usize = 64;

pub(super) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > LENGTH_MOST {
        return Err(format!("{} bytes are too many, at most {LENGTH_MOST}", text.len()));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    let found = parser.either()?;
    let found = parser.condition(found)?;
    match parser.peek() {
        Token::End => Ok(found),
        _ => Err(parser.wanted("an end, AND or OR")),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

type Parsed = Result<Expression, String>;

fn pair(left: Expression, right: Expression) -> Box<(Expression, Expression)> {
    Box::new((left, right))
}

fn not(inner: Expression) -> Expression {
    Expression::Not(Box::new(inner))
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn wanted(&self, what: &str) -> String {
        format!("{what} is wanted at {}", self.tokens[self.next].0)
    }

    fn take(&mut self) -> Token {
        let token = self.tokens[self.next].1.clone();
        // The end stays.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn takes(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.take();
        }
        found
    }

    fn word(&mut self, word: &'static str) -> bool {
        self.takes(&Token::Word(word))
    }

    fn sign(&mut self, sign: &'static str) -> bool {
        self.takes(&Token::Sign(sign))
    }

    /// What can be true or false.
    fn condition(&self, found: Expression) -> Parsed {
        match found {
            Expression::Property(_) => Ok(Expression::Truth(Box::new(found))),
            found if found.is_condition() => Ok(found),
            _ => Err(self.wanted("a comparison")),
        }
    }

    fn either(&mut self) -> Parsed {
        let mut left = self.all()?;
        while self.word("OR") {
            let right = self.all()?;
            left = Expression::Or(pair(self.condition(left)?, self.condition(right)?));
        }
        Ok(left)
    }

    fn all(&mut self) -> Parsed {
        let mut left = self.equality()?;
        while self.word("AND") {
            let right = self.equality()?;
            left = Expression::And(pair(self.condition(left)?, self.condition(right)?));
        }
        Ok(left)
    }

    fn equality(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        loop {
            if self.sign("=") {
                left = self.equal(left)?;
            } else if self.sign("<>") {
                left = not(self.equal(left)?);
            } else if self.word("IS") {
                let negated = self.word("NOT");
                if !self.word("NULL") {
                    return Err(self.wanted("NULL"));
                }
                left = Expression::IsNull(Box::new(left));
                if negated {
                    left = not(left);
                }
            } else {
                return Ok(left);
            }
        }
    }

    fn equal(&mut self, left: Expression) -> Parsed {
        let right = self.comparison()?;
        let nothing = |side: &Expression| matches!(side, Expression::Constant(None));
        if nothing(&left) || nothing(&right) {
            return Err(self.wanted("IS NULL or IS NOT NULL, before which NULL is compared,"));
        }
        Ok(Expression::Equal(pair(left, right)))
    }

    fn comparison(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let comparison = match self.peek() {
                Token::Sign("<") => Some(Comparison::Less),
                Token::Sign("<=") => Some(Comparison::LessOrEqual),
                Token::Sign(">") => Some(Comparison::Greater),
                Token::Sign(">=") => Some(Comparison::GreaterOrEqual),
                _ => None,
            };
            if let Some(comparison) = comparison {
                self.take();
                let right = self.unary()?;
                left = self.compare(left, comparison, right)?;
                continue;
            }
            let before = self.next;
            let negated = self.word("NOT");
            let found = if self.word("BETWEEN") {
                self.between(left, negated)?
            } else if self.word("IN") {
                wrap(negated, Expression::In(self.property(left)?, self.list()?))
            } else if let Some(part) = self.part() {
                let searched = self.text()?;
                let name = self.property(left)?;
                // A property that is not there contains nothing, and neither does it not.
                let found = Expression::Like(name.clone(), part, searched);
                if negated {
                    let there = not(Expression::IsNull(Box::new(Expression::Property(name))));
                    Expression::And(pair(there, not(found)))
                } else {
                    found
                }
            } else {
                self.next = before;
                return Ok(left);
            };
            left = found;
        }
    }

    fn part(&mut self) -> Option<Part> {
        [("CONTAINS", Part::Any), ("STARTSWITH", Part::Start), ("ENDSWITH", Part::End)]
            .into_iter()
            .find_map(|(word, part)| self.word(word).then_some(part))
    }

    fn compare(&self, left: Expression, comparison: Comparison, right: Expression) -> Parsed {
        for side in [&left, &right] {
            let number = match side {
                Expression::Constant(value) => {
                    matches!(value, Some(Value::Integer(_) | Value::Real(_)))
                }
                other => !other.is_condition(),
            };
            if !number {
                return Err(self.wanted("a number or a property on both sides"));
            }
        }
        Ok(Expression::Compare(pair(left, right), comparison))
    }

    fn between(&mut self, value: Expression, negated: bool) -> Parsed {
        let low = self.unary()?;
        if !self.word("AND") {
            return Err(self.wanted("AND"));
        }
        let high = self.unary()?;
        if let (Expression::Constant(Some(low)), Expression::Constant(Some(high))) = (&low, &high)
            && order(high, low).is_ok_and(std::cmp::Ordering::is_lt)
        {
            return Err(self.wanted("a range that does not end before it begins,"));
        }
        if negated {
            let below = self.compare(value.clone(), Comparison::Less, low)?;
            let above = self.compare(value, Comparison::Greater, high)?;
            return Ok(Expression::Or(pair(below, above)));
        }
        let from = self.compare(value.clone(), Comparison::GreaterOrEqual, low)?;
        let to = self.compare(value, Comparison::LessOrEqual, high)?;
        Ok(Expression::And(pair(from, to)))
    }

    fn property(&self, found: Expression) -> Result<String, String> {
        match found {
            Expression::Property(name) => Ok(name),
            _ => Err(self.wanted("a property on the left")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::Literal(Value::Text(text)) => {
                let text = text.clone().into_owned();
                self.take();
                Ok(text)
            }
            _ => Err(self.wanted("a text in quotes")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        if !self.sign("(") {
            return Err(self.wanted("\"(\""));
        }
        let mut all = vec![self.text()?];
        while self.sign(",") {
            all.push(self.text()?);
        }
        match self.sign(")") {
            true => Ok(all),
            false => Err(self.wanted("\")\"")),
        }
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MOST {
            return Err(self.wanted("less depth"));
        }
        let found = if self.sign("+") {
            self.unary()?
        } else if self.sign("-") {
            match self.unary()? {
                Expression::Constant(Some(Value::Integer(n))) => constant(Value::Integer(-n)),
                Expression::Constant(Some(Value::Real(n))) => constant(Value::Real(-n)),
                inner => Expression::Negative(Box::new(inner)),
            }
        } else if self.word("NOT") {
            let inner = self.unary()?;
            not(self.condition(inner)?)
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(found)
    }

    fn primary(&mut self) -> Parsed {
        if self.sign("(") {
            let found = self.either()?;
            return match self.sign(")") {
                true => Ok(found),
                false => Err(self.wanted("\")\"")),
            };
        }
        let found = match self.peek() {
            Token::Literal(value) => constant(value.clone()),
            Token::Name(name) => Expression::Property(name.clone()),
            Token::Word("TRUE") => constant(Value::Truth(true)),
            Token::Word("FALSE") => constant(Value::Truth(false)),
            Token::Word("NULL") => Expression::Constant(None),
            _ => return Err(self.wanted("a value or a property")),
        };
        self.take();
        Ok(found)
    }
}

fn constant(value: Value<'static>) -> Expression {
    Expression::Constant(Some(value))
}

fn wrap(negated: bool, found: Expression) -> Expression {
    if negated { not(found) } else { found }
}
