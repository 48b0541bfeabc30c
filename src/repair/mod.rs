//! Mending a store.
use crate::format::{layout::TransactionState, view::RecordView};
/// The topic of records that stand where damaged ones were.
pub(crate) const TOPIC: &str = "STEADFAST_PLACEHOLDER";
/// The same where there is no room for the long name.
pub(crate) const SHORT_TOPIC: &str = "_";
/// Whether the record is one that a repair put over damage.
pub(crate) fn is_placeholder(view: &RecordView<'_>) -> bool {
    view.transaction_state() == TransactionState::Rollback
        && (view.topic() == TOPIC || view.topic() == SHORT_TOPIC)
        && view.body().iter().all(|&b| b == 0)
}
