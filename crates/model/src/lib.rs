//! The nouns of MarketPrism, and the ports where its rooms meet.
//!
//! Every room imports this one, so it stays small in what it needs: no runtime, no files, no other
//! room. A port is a trait that one room implements and another calls; both sides know only this crate.
//! Deliberately absent: decisions. What an alert *does* stands in `alerts`, what a selector *means* in
//! `promql`; here is only what the words are.

pub mod access;
pub mod alert;
pub mod clock;
pub mod duration;
pub mod histogram;
pub mod id;
pub mod incident;
pub mod kill_point;
pub mod labels;
pub mod lease;
pub mod lifecycle;
pub mod matcher;
pub mod nearest;
pub mod notification;
pub mod observation;
mod pattern;
pub mod records;
pub mod rule;
pub mod rule_store;
pub mod sample;
pub mod schedule;
pub mod secret;
pub mod series;
pub mod silence;
pub mod time_interval;
pub mod timestamp;

pub use access::{
    AccessStore, AccessStoreError, ApiToken, AuditEntry, AuditFilter, AuditOutcome, Role, RoleError, User,
};
pub use alert::{
    Alert, AlertEvent, AlertEventKind, AlertState, Assignment, Category, ExternalSource, Level, Priority,
};
pub use clock::{BoxFuture, Chance, Clock, Entropy};
pub use histogram::{BucketSpan, Buckets, Histogram, HistogramError, ResetHint};
pub use id::Id;
pub use incident::{Hint, Incident, IncidentEvent, IncidentEventKind, IncidentFilter, IncidentState};
pub use kill_point::kill_point;
pub use labels::{Labels, LabelsBuilder};
pub use lease::{Claim, LeaseStore, Replica};
pub use lifecycle::{ActiveAlert, Lifecycle, LifecycleError};
pub use matcher::{Matcher, MatcherError, MatcherOp};
pub use nearest::nearest;
pub use notification::{
    AttemptOutcome, DeliveryAttempt, Notification, NotificationContent, NotificationStatus, NotifiedAlert,
    Purpose,
};
pub use observation::{Observation, Verdict};
pub use records::{
    AlertCommit, AlertFilter, AlertSnapshot, AlertStore, ClockRecord, Outbox, Page, StoreError,
};
pub use rule::{Condition, RuleContext, RuleId};
pub use rule_store::{RuleGroupDeletion, RuleGroupRecord, RuleGroupVersion, RuleStore, RuleStoreError};
pub use sample::{RefHistogram, RefSample, Sample, SampleSink, SeriesRef};
pub use schedule::ShiftOverride;
pub use secret::Secret;
pub use series::{Samples, Selection, SeriesSource};
pub use silence::{Silence, SilenceFilter, SilenceState};
pub use time_interval::{CalendarDay, CalendarDays, DayTimes, Span, TimeInterval};
pub use timestamp::{TimeRange, Timestamp};
