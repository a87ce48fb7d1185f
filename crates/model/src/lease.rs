//! The right to evaluate and to tell, held by one replica at a time; and the port that keeps it.
//!
//! With the embedded database there is one process, held by the data folder's lock: it always leads. With a shared
//! database the lease has a time limit by the database's clock and an epoch that rises with each new holder; whoever
//! writes as a leader is checked against the epoch in the same transaction, so that one who was cut off and does
//! not know it yet changes nothing.

use std::time::Duration;

use crate::StoreError;

/// A replica, as the others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replica {
    /// Names the process; drawn anew at each start.
    pub id: String,
    /// Where the others reach it, `host:port`; empty when nobody can.
    pub address: String,
}

/// Who holds the lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// We do, for the span asked for, counted from before the question was put.
    Ours {
        /// Rises with each new holder.
        epoch: u64,
    },
    /// Somebody else does.
    Theirs {
        /// The holder.
        holder: Replica,
    },
}

/// Keeps the lease.
pub trait LeaseStore: Send + Sync {
    /// Takes the lease if it is free or has run out, renews it if it is ours, and says who holds it now.
    ///
    /// From a claim that is `Ours` on, writes of this process carry its epoch; without one they are refused.
    fn claim(&self, replica: &Replica, lasting: Duration) -> Result<Claim, StoreError>;

    /// Gives the lease back if it is ours, so that the next one need not wait.
    fn release(&self, replica: &Replica) -> Result<(), StoreError>;
}
