//! What this room counts about itself. Labels come from fixed lists; no name and no address is one.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::Refusal;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct ReasonLabels {
    pub reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub outcome: &'static str,
}

/// The figures of access; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    refusals: Family<ReasonLabels, Counter>,
    logins: Family<OutcomeLabels, Counter>,
    audit: Family<OutcomeLabels, Counter>,
    pub(crate) sessions_checked: Counter,
    pub(crate) password_runs: Counter,
    pub(crate) watched_addresses: Gauge,
}

impl Metrics {
    /// Adds the figures to the program's registry, which prefixes them with `marketprism_`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Metrics::default();
        for reason in Refusal::REASONS {
            drop(metrics.refusals.get_or_create(&ReasonLabels { reason }));
        }
        for (family, outcomes) in [
            (&metrics.logins, &["done", "refused"][..]),
            (&metrics.audit, &["kept", "left_out", "failed"]),
        ] {
            for outcome in outcomes {
                drop(family.get_or_create(&OutcomeLabels { outcome }));
            }
        }
        registry.register(
            "access_refusals",
            "Requests that were not let in, by reason",
            metrics.refusals.clone(),
        );
        registry.register(
            "access_logins",
            "Logins with a user name and a password, by how they ended",
            metrics.logins.clone(),
        );
        registry.register(
            "access_audit_entries",
            "Entries of the audit log: kept, left out because one client was refused too often, or not writable",
            metrics.audit.clone(),
        );
        registry.register(
            "access_sessions_checked",
            "Session tokens with a good signature that were held against the records",
            metrics.sessions_checked.clone(),
        );
        registry.register(
            "access_password_hashes",
            "Runs of argon2id",
            metrics.password_runs.clone(),
        );
        registry.register(
            "access_watched_addresses",
            "Addresses with failed attempts that are remembered",
            metrics.watched_addresses.clone(),
        );
        metrics
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn login(&self, outcome: &'static str) {
        self.logins.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn audited(&self, outcome: &'static str) {
        self.audit.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
