//! What a consumer wants of a topic.

use std::{collections::BTreeSet, sync::Arc};

use serde::Deserialize;

use crate::limits::{EXPRESSION_MOST, TAGS_MOST};

/// `SubscriptionData` as clients of all languages write it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SubscriptionData {
    pub(crate) topic: String,
    pub(crate) sub_string: String,
    pub(crate) expression_type: Option<String>,
    pub(crate) sub_version: i64,
}

/// Which messages of a topic go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    All,
    /// Those with one of these tags.
    Tags(Arc<[String]>),
}

impl Filter {
    /// What an expression means.
    ///
    /// # Errors
    ///
    /// Why it means nothing.
    pub(crate) fn parse(expression: &str, kind: Option<&str>) -> Result<Self, String> {
        match kind {
            None | Some("" | "TAG") => {}
            Some("SQL92") => {
                return Err(
                    "The broker does not support consumer to filter message by SQL92".to_owned()
                );
            }
            Some(other) => return Err(format!("there are no filters of the kind {other:?}")),
        }
        if matches!(expression.trim(), "" | "*") {
            return Ok(Self::All);
        }
        if expression.len() > EXPRESSION_MOST {
            let len = expression.len();
            return Err(format!("the filter has {len} bytes, at most {EXPRESSION_MOST}"));
        }
        let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
        let tags: BTreeSet<String> = tags.map(str::to_owned).collect();
        if tags.is_empty() {
            return Err(format!("there is no tag in {expression:?}"));
        }
        if tags.len() > TAGS_MOST {
            return Err(format!("the filter has {} tags, at most {TAGS_MOST}", tags.len()));
        }
        Ok(Self::Tags(tags.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_tags_are_taken_apart_and_others_refused() {
        let tags = |all: &[&str]| Filter::Tags(all.iter().map(|t| (*t).to_owned()).collect());
        for all in ["", "*", " * "] {
            assert_eq!(Filter::parse(all, None), Ok(Filter::All));
        }
        assert_eq!(Filter::parse("b || a||b ", Some("TAG")), Ok(tags(&["a", "b"])));
        for (expression, kind) in [("||", None), ("a > 1", Some("SQL92")), ("a", Some("X"))] {
            assert!(Filter::parse(expression, kind).is_err());
        }
    }
}
