//! What a consumer wants of a topic, and reading that.

use std::{collections::BTreeSet, sync::Arc};

use bytes::BytesMut;
use serde::Deserialize;
use steadfast::{Batch, QueueKey, QueueOffset, ReadLimit, Store};

use crate::{
    limits::{ENTRIES_A_PULL_MOST, EXPRESSION_MOST, TAGS_MOST},
    sql::Condition,
};

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
    /// Those for which a condition over their properties is true.
    Sql(Arc<Condition>),
}

/// How much one read gives at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Messages.
    pub(crate) records: usize,
    /// Bytes of them, but always one message.
    pub(crate) bytes: u64,
}

/// What a read found.
pub(crate) struct Found {
    /// The messages as they are stored, one behind the other.
    pub(crate) records: BytesMut,
    /// Where to read on.
    pub(crate) next: QueueOffset,
    /// Where the queue ended.
    pub(crate) end: QueueOffset,
}

impl Filter {
    /// What an expression means; `sql` says whether conditions are allowed.
    ///
    /// # Errors
    ///
    /// Why it means nothing.
    pub(crate) fn parse(expression: &str, kind: Option<&str>, sql: bool) -> Result<Self, String> {
        match kind {
            None | Some("" | "TAG") => {}
            Some("SQL92") if sql => {
                let condition = Condition::parse(expression);
                return condition.map(|condition| Self::Sql(Arc::new(condition)));
            }
            Some("SQL92") => {
                let why = "The broker does not support consumer to filter message by SQL92; \
                           enablePropertyFilter=true lets it";
                return Err(why.to_owned());
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

    /// Reads what goes through from `from` on.
    ///
    /// # Errors
    ///
    /// The store's, if they are about what `from` itself meets.
    pub(crate) fn read(
        &self,
        store: &Store,
        queue: &QueueKey,
        from: QueueOffset,
        limit: &Limit,
    ) -> steadfast::Result<Found> {
        let whole =
            ReadLimit::records(limit.records).bytes(limit.bytes).entries(ENTRIES_A_PULL_MOST);
        match self {
            Self::All => Ok(all_of(&store.read(queue, from, whole)?)),
            Self::Tags(tags) => {
                let tags: Vec<_> = tags.iter().map(String::as_str).collect();
                Ok(all_of(&store.read_tagged(queue, from, whole, &tags)?))
            }
            Self::Sql(condition) => matching(condition, store, queue, from, limit),
        }
    }
}

fn all_of(batch: &Batch) -> Found {
    let bytes = batch.iter().map(|record| record.bytes().len()).sum();
    let mut records = BytesMut::with_capacity(bytes);
    batch.iter().for_each(|record| records.extend_from_slice(record.bytes()));
    Found { records, next: batch.next_offset(), end: batch.end_offset() }
}

/// So many messages are read at once to look at their properties.
const LOOKED_AT_ONCE: usize = 256;

fn matching(
    condition: &Condition,
    store: &Store,
    queue: &QueueKey,
    from: QueueOffset,
    limit: &Limit,
) -> steadfast::Result<Found> {
    let mut found = Found { records: BytesMut::new(), next: from, end: from };
    let mut taken = 0;
    loop {
        let looked_at = found.next.saturating_since(from) as usize;
        let at_once = LOOKED_AT_ONCE.min(ENTRIES_A_PULL_MOST.saturating_sub(looked_at));
        if at_once == 0 {
            return Ok(found);
        }
        let batch = match store.read(queue, found.next, ReadLimit::records(at_once)) {
            // What is before it is told first.
            Err(_) if found.next > from => return Ok(found),
            batch => batch?,
        };
        found.end = batch.end_offset();
        for record in batch.iter() {
            if condition.matches(&|name| record.property(name)) {
                let room = limit.bytes.saturating_sub(found.records.len() as u64);
                if taken == limit.records || (taken > 0 && record.bytes().len() as u64 > room) {
                    return Ok(found);
                }
                found.records.extend_from_slice(record.bytes());
                taken += 1;
            }
            found.next = record.queue_offset().next();
        }
        if batch.is_empty() {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_tags_are_taken_apart_and_others_refused() {
        let tags = |all: &[&str]| Filter::Tags(all.iter().map(|t| (*t).to_owned()).collect());
        for all in ["", "*", " * "] {
            assert_eq!(Filter::parse(all, None, true), Ok(Filter::All));
        }
        assert_eq!(Filter::parse("b || a||b ", Some("TAG"), true), Ok(tags(&["a", "b"])));
        for (expression, kind) in [("||", None), ("a > 1", Some("SQL92")), ("a", Some("X"))] {
            assert!(Filter::parse(expression, kind, false).is_err());
        }
    }
}
